"""SSR events: from a collector that relay starts.

`event_collector` is the source. `child_process` is one run of the collector, which `subreaper` starts, so that no
process of it outlives relay; `index_file` holds how far the collector has read.
"""
