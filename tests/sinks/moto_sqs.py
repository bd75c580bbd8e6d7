"""moto's server with a queue that takes as many messages as come: `python moto_sqs.py -H HOST -p PORT`.

At every SendMessage moto counts all messages of the queue, several times over (`Queue.attributes`), and takes 30 a second where 1,000
are. Nobody here asks for those counts; without them it takes 300 a second, however many are there.
"""

from moto.server import main
from moto.sqs.models import Queue

Queue.BASE_ATTRIBUTES = [name for name in Queue.BASE_ATTRIBUTES if not name.startswith("Approximate")]

if __name__ == "__main__":
    main()
