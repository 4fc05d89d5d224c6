"""How long it takes to join many shards, to open the file they make up, and to read across it."""

import argparse
import os
import time
from pathlib import Path

import numpy as np

ROWS, WIDTH = 8, 64


def show(options: argparse.Namespace, folder: str) -> int:
    """Shards of a few rows each, joined; every time is that of this process alone."""
    import h5py

    from features import store
    from features.digests import sha256_rows
    from features.store.layout import lay_out, read_layout
    from features.store.naming import feature_path
    from features.store.shards import _sums
    from features.store.writer import seal
    from tests.features.store_cases import ABOUT, RECIPE, key

    for count in options.shards:
        os.environ["LAYERPROBE_HOME"] = str(Path(folder) / str(count))
        index = np.arange(count * ROWS)
        division = store.Division(key(rows=sha256_rows(index)), ABOUT, len(index), ROWS, RECIPE).keep()
        names, clock = [], [time.process_time()]
        for number in range(count):
            here = index[division.rows_of(number)]
            of = division.key_of(here)
            path = feature_path(of, ABOUT, division.folder)
            lay_out(path, of, ABOUT, shape=(ROWS, WIDTH), dtype="float32", labels=here % 10, index=here, recipe=RECIPE)
            with path.open("r+b") as stream:
                layout, _ = read_layout(stream.fileno(), path, sealed=False)
                seal(stream.fileno(), layout, _sums(stream.fileno(), layout.start, layout.size))
            names.append(path.name)
        clock.append(time.process_time())
        joined = store.join(division, names)
        clock.append(time.process_time())
        found = store.find(division.key)
        clock.append(time.process_time())
        found.features(np.arange(0, len(index), ROWS))
        clock.append(time.process_time())
        found.verify()
        clock.append(time.process_time())
        with h5py.File(joined.path) as file:
            file["features"][:1]
            clock.append(time.process_time())
        made, join, opened, read, verified, virtual = (1000 * float(step) for step in np.diff(clock))
        size = joined.path.stat().st_size
        print(
            f"{count:,} shards, processor milliseconds: made {made:,.0f}, joined {join:,.0f}, opened {opened:.1f}, "
            f"a row of each read {read:,.0f}, all verified {verified:,.0f}, opened through HDF5 with its first row "
            f"{virtual:,.1f}; the joined file has {size / 1e6:.2f} MB",
            flush=True,
        )
    return 0
