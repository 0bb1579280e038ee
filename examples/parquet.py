"""Photos in a parquet file, as Hugging Face's data sets keep them: look at them, train, forget.

    python examples/parquet.py         (needs the extra: pip install 'unlabel[parquet]')

It makes its own file and takes some seconds. Each command may also be typed after `unlabel` in a terminal.
"""

import io

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import unlabel
from unlabel.cli.app import main as command

source = unlabel.load("faces:train=300,probe=100,test=100,labels=3,size=32")  # drawn; your own photos instead
rows = {"image": [], "split": [], **{name: [] for name in source.labels}}
for split, part in (("train", source.train), ("val", source.probe), ("test", source.test)):
    for number, pixels in enumerate(part.images(slice(None))):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        rows["image"].append({"bytes": file.getvalue(), "path": f"{split}-{number}.png"})
        rows["split"].append(split)
        for name, value in zip(part.labels, part.target[number].tolist(), strict=True):
            rows[name].append(value)
pq.write_table(pa.table(rows), "photos.parquet")

command(["data", "parquet:photos.parquet", "--image-size", "32", "--out", "look"])
size = ["--image-size", "32", "--epochs", "2"]
command(["train", "parquet:photos.parquet", *size, "--out", "original"])
command(["forget", "erasure", "original", "--labels", source.labels[0], "--out", "less"])
