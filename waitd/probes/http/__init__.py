"""The kind `http`: pokes a URL and decides by status and conditions.

A wait's parameters become a target; `HttpProbe` pokes targets. Submitting, finding and cancelling
jobs over HTTP is here, too. Connections and their credentials are in `probes.access`, CEL is in
`probes.cel`, sockets are in `probes.transport`.
"""
