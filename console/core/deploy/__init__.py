"""What runs a profile elsewhere: systemd units, a Compose file, Kubernetes manifests. Text and data, nothing is run."""
