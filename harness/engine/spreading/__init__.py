"""Work spread over processes, devices and machines: one model in each worker, one driver that hands out and collects."""
