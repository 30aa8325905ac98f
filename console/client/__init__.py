"""What the front ends use: profiles, engines, runs, and a session with a supervisor over its socket."""
