"""The Debug Adapter Protocol: a recorded or new cluster in editors, with steps and continues both ways.

    stream      messages over a pair of byte streams
    server      requests and events, by the protocol's names
    debuggee    what they ask for, done with the debugger and our own commands
    points      breakpoints of all kinds as the debugger's conditions
    variables   registers, flags and the moment as the protocol's variables

A thread of the protocol is a machine; all of them move together.
"""
