"""What a user of train_net.py sees for input that is not as it should be.

Each is one line that names the file or key at fault and what was expected, without a traceback,
and before training starts where it can be known by then.
"""
