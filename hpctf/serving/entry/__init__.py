"""What an entry script of Azure ML's form runs in: its own Python, 3.8 or later, without hpctf.

What clients see is what ``azureml-inference-server-http`` 1.5 answers: tests compare the two.
"""
