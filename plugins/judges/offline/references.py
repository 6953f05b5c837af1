"""The reference passages: plain fluent English of many kinds, with which texts are compared."""

REFERENCES = (
    "When the rain stopped, we went down to the river to see how far the water had risen. The path was still muddy, and my brother slipped "
    "twice before we reached the bridge.",
    "To make a simple soup, cut two onions and a carrot into small pieces and cook them slowly in a little oil. Add water and salt, and let "
    "the pot simmer for half an hour.",
    "There are several reasons why people move to a big city. Some are looking for work, others want to study, and many simply like to live "
    "close to shops, theatres and friends.",
    "Thank you very much for your letter. I was glad to hear that the journey went well and that the children are enjoying the new school. "
    "Please give them my best wishes.",
    "The heart is a muscle that pumps blood through the body. With every beat it sends oxygen to the organs, and it carries away what they no "
    "longer need.",
    "Before you buy a used car, ask for its papers and take it for a drive. Listen to the engine, try the brakes, and look under the car for "
    "oil or rust.",
    "A good way to learn new words is to use them the same day. Write three short sentences, say them aloud, and come back to them after a "
    "week.",
    "The town council has decided to close the main street to traffic on Sundays. Shop owners are divided: some fear for their sales, while "
    "others hope that more visitors will come.",
    "Light travels faster than sound. That is why you see the lightning first and hear the thunder a few seconds later, and the longer you "
    "wait, the farther away the storm is.",
    "Once upon a time there was a miller who had three sons. When he died, the eldest got the mill, the second got the donkey, and the "
    "youngest got nothing but the cat.",
    "Here are three things to remember: keep your passport with you, drink only bottled water, and agree on the price before you get into a "
    "taxi.",
    "Hello everyone, and welcome to the meeting. Today we will look at the plan for the next month, decide who does what, and leave some time "
    "for questions at the end.",
)
"""Plain fluent English of many kinds: what a fluency of 1 means. Part of the rubric, like everything else in this module."""
