"""What is known of models, engines and hardware beyond one profile: tables with the source of every figure."""
