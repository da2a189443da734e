"""What people look at: a page about a study, and plots of it."""
