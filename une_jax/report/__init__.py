"""What a NoiseZoo says, as tables, figures and one self-contained HTML page."""
