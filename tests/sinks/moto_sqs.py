"""moto's server with queues that stay fast: `python moto_sqs.py -H HOST -p PORT`.

At every SendMessage moto counts all messages of the queue several times (`Queue.attributes`), so it
accepts 30 messages a second where 1,000 are queued. Without the counts, which no test reads, it
accepts 300 a second at any length.
"""

from moto.server import main
from moto.sqs.models import Queue

Queue.BASE_ATTRIBUTES = [name for name in Queue.BASE_ATTRIBUTES if not name.startswith("Approximate")]

if __name__ == "__main__":
    main()
