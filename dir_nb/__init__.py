__version__ = "0.1.0"

from .face import lazy

__getattr__, __dir__ = lazy(__name__)
