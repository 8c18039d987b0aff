"""SQS's JSON protocol over SQLite: the queues of the local stack, with AWS's limits, errors and FIFO rules.

What AWS answers is taken from its API reference and from answers that were recorded against it.
"""
