"""What steerers share: scales of strength, and the edits that shipped steerers make."""
