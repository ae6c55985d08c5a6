"""Linear maps in eight bits that stay close to float32.

A text's activations share one scale, measured as it passes, so one large channel takes the precision of all others. In
BERT a few channels are ten times the rest, always the same ones. So each channel is divided by a gain before it is
rounded and its weights are multiplied by it: the product is the same (Xiao et al. 2023, SmoothQuant). How large the
channels get is measured when the model is loaded, on a few texts. What the gain does not mend stays in float32: the
map back from the wide layer, whose input has outliers that differ from text to text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.embedders.bert import Array

RECIPE = "int8.1"
"""Part of the model id: another way of rounding, or other texts below, gives other vectors."""

LEVELS = 127
# How much of a channel's excess moves into the weights: 0.5 to 0.85 give the same, 0 and 1 are worse.
SHARE = np.float32(0.7)
# Against channels that the few texts never woke.
PEAK_MIN = np.float32(0.01)
KEPT = "output.dense"
KEPT_BUT = "attention.output.dense"

# In the manner of tools and tasks; what matters is that between them they wake the large channels.
CALIBRATION = (
    "get weather forecast: Returns the forecast of a city for the coming days, with temperature, wind and rain.",
    "How do I send a message to my team about the meeting that moved to Friday?",
    "search_files: Find files whose names match a pattern. Skips hidden folders; at most 100 paths, newest first.",
    "Convert 250 euros to dollars at today's rate and add the sum to my spreadsheet.",
    "database query",
    "Creates an issue in a repository (owner/repo), with title, body, labels[] and assignees. Needs the scope `repo`.",
    "¿Qué trenes salen mañana de Madrid a Sevilla?",
    "POST /v2/users/{id}/orders - places an order; 201 on success, 422 if the item_id is unknown",
    "find a cheap hotel near the station, then book a table for two at 8 pm and tell Anna",
    "画像のサイズを変更する",
    "This tool analyses the sentiment of a text and returns a score between -1.0 and 1.0.",
    "play the next song",
)


@dataclass(frozen=True, slots=True)
class Quantised:
    """(x · gain) @ weight · scale is nearly x @ W.T: gain (in,), weight (in, out) of int8, scale (out,)."""

    gain: Array
    weight: NDArray[np.int8]
    scale: Array


def fit(name: str) -> bool:
    """Whether the map of this name bears eight bits."""
    return not name.endswith(KEPT) or name.endswith(KEPT_BUT)


def quantise(weight: Array, peaks: Array) -> Quantised:
    """`weight` (out, in) as the file holds it; `peaks` (in,): the largest magnitude seen of each input channel."""
    w = weight.T
    large = np.maximum(peaks, PEAK_MIN * peaks.max())
    excess = large**SHARE / np.maximum(np.abs(w).max(axis=1), np.float32(1e-6)) ** (1 - SHARE)
    excess /= np.exp(np.log(excess).mean())
    w = w * excess[:, None]
    scale = np.maximum(np.abs(w).max(axis=0), np.float32(1e-12)) / LEVELS
    rounded = np.clip(np.rint(w / scale), -LEVELS, LEVELS).astype(np.int8)
    return Quantised((1 / excess).astype(np.float32), rounded, scale.astype(np.float32))
