"""What is drawn into training pictures, labels and all, because small sets hardly show it."""
