"""A local page that shows fast styles live."""

from topwork.style.demo.server import DemoServer

__all__ = ["DemoServer"]
