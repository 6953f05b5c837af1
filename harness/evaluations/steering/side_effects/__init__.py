"""What steering costs beside the concept: how far it moves the model on neutral text, and what it leaves of its knowledge.

After a judge's ratings have chosen the strength of each labeling on all instructions that choose, the model is read at that strength and unsteered,
on the same texts. Nothing is chosen by it, no text of the run depends on it, and so it is no part of the run's identity.
"""

SIDE_EFFECTS = "side-effects"
"""The stage: its outcomes belong to the first trial of a labeling at the strength that was chosen."""
