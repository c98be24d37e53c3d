"""What is in a DLC, read and executed through the QNN C interface."""
