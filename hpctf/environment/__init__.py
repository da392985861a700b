"""Training environments: what is in one, where it is kept, and how it is built and checked.

`hpctf.environment.spec` says what an environment is and names it after its content;
`hpctf.environment.store` knows where it lies; `hpctf.environment.build` makes it.
"""
