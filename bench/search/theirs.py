"""sentence-transformers on standard input and output, run by the Python of `make models`: a JSON list of texts in, the
seconds that their vectors took and those of the processor out, a line each. Its argument is the folder of the model."""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    model = SentenceTransformer(sys.argv[1], device="cpu")
    model.encode(["warm up"] * 4)
    for line in sys.stdin:
        texts = json.loads(line)
        began, used = time.perf_counter(), time.process_time()
        model.encode(texts, batch_size=32, normalize_embeddings=True)
        print(time.perf_counter() - began, time.process_time() - used, flush=True)


if __name__ == "__main__":
    main()
