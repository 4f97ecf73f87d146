"""What a run would need and take on accelerators that are not there."""
