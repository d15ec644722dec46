"""What a report shows: runs read from their folders, pictures of them, and the page that holds both."""
