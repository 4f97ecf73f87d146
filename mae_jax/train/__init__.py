"""What turns batches into a trained state."""
