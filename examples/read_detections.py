"""Print what `detector-run` found: `python read_detections.py dets.json`."""

import json
import sys
from pathlib import Path

for image in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["images"]:
    found = [f"{d['label']} {d['score']:.2f}" for d in image["detections"] if d["score"] >= 0.8]
    print(f"{image['file']}: {', '.join(found) or 'nothing'}")
