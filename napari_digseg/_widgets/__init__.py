"""Controls only: what is shown and what was clicked. Every decision is the controller's."""
