"""What the towers cost on a catalogue of a real service's size, and what an answer of theirs costs."""
