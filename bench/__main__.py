"""`make bench`: measures the home that runs now (`marquee up`, with a live release)."""

from bench import shelf_latency

if __name__ == "__main__":
    shelf_latency.main()
