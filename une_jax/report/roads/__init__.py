"""All roads: every view mapped into every other, decoded there, and measured.

``rows`` chooses the images, ``places`` holds them, ``pairs`` maps latents, ``pictures``
scores what is decoded, ``journeys`` goes by way of a third view, ``carried`` takes an edit
along, ``drawn`` makes the figures and ``claims`` holds the published statements.
"""
