"""NoiseZoos to and from other tools' files: `.npy`, Hugging Face Parquet, flat tables.

A zoo stays what is trusted; these are copies of it, or ways into it. Each writer takes
an open, finished zoo and an empty folder, and streams shard by shard, so that memory
does not grow with the zoo. `whole.whole_folder` gives a folder that appears complete or
not at all.
"""
