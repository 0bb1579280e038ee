"""From files to pixels: decoding within limits, and the cache of decoded images."""
