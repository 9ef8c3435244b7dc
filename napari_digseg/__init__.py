"""The napari plugin. Holds the version alone: napari imports the rest when it is used."""

from digseg._version import __version__ as __version__
