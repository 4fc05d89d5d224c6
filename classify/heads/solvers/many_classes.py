"""One class against one among many classes of a few support vectors each, decided a class at a time.

What every class says against every rival (`pairs.decisions_of_pairs`) is a number for each pair and row, a thousand
classes' half a million for a row: memory is what that waits for. Here the margins of one class against all that come
after it are summed while they are in cache, and the confidences, sums of margins, are one matrix product.
"""

import numpy as np

from classify.heads.solvers.pairs import votes_before

MANY_CLASSES = 200
FEW_VECTORS = 20  # of a class, up to which summing them without a matrix product is not slower
MOST_NUMBERS = 32_000_000  # of what vectors say, float64
MOST_VECTORS = 8_000_000  # numbers of all vectors, float64 at once as well
ROWS = 128  # whose kernel with some thousand vectors a core's cache holds


class ManyClasses:
    """Decides between classes whose vectors are padded to one number, m, for each.

    vectors: (S, D), those of a class together, and their coefficients against each rival (S, K - 1); counts: vectors of
    each class (K,); biases: of the pairs i < j (pairs,). `vectors`, float64 (K * m, D), are those that a kernel is to
    be given of.
    """

    def __init__(self, vectors: np.ndarray, coefficients: np.ndarray, counts: np.ndarray, biases: np.ndarray) -> None:
        classes, most = len(counts), int(counts.max())
        owner = np.repeat(np.arange(classes), counts)
        place = np.arange(len(vectors)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.vectors = np.zeros((classes * most, vectors.shape[1]))
        self.vectors[owner * most + place] = vectors
        # By rival, class and vector, what it adds to the rival's confidence; and to its own class' what it takes.
        self._said = np.zeros((classes, classes, most))
        for rival in range(classes):
            # Of the columns of a class' coefficients none is its own.
            others = np.flatnonzero(owner != rival)
            sign = np.sign(owner[others] - rival)
            column = rival - (sign < 0)
            self._said[rival, owner[others], place[others]] = sign * coefficients[others, column]
        own = np.arange(classes)
        self._said[own, own] = -self._said.sum(axis=0)
        self._biases = biases
        first, second = np.triu_indices(classes, 1)
        self._lean = np.bincount(first, biases, classes) - np.bincount(second, biases, classes)

    @staticmethod
    def suits(counts: np.ndarray, width: int) -> bool:
        """Whether classes with so many vectors each, of so many numbers, are many, have few, and about as many each."""
        classes, most = len(counts), int(counts.max())
        alike = bool(classes * most <= 2 * counts.sum())
        fits = classes**2 * most <= MOST_NUMBERS and classes * most * width <= MOST_VECTORS
        return classes >= MANY_CLASSES and most <= FEW_VECTORS and alike and fits

    def decisions(self, kernel: np.ndarray) -> np.ndarray:
        """Votes before confidences, float64 (N, K), of the kernel between `vectors` and rows (K * m, N)."""
        classes, _, most = self._said.shape
        confidence = self._said.reshape(classes, -1) @ kernel + self._lean[:, None]
        kernel = kernel.reshape(classes, most, -1)
        votes = np.zeros(confidence.shape)
        lost, start = np.zeros(confidence.shape, dtype=np.int32), 0
        for i in range(classes - 1):
            margins = np.einsum("kmn,km->kn", kernel[i + 1 :], self._said[i, i + 1 :])
            margins -= self._said[i + 1 :, i] @ kernel[i]
            margins += self._biases[start : start + len(margins), None]
            start += len(margins)
            won = margins > 0
            votes[i] = np.count_nonzero(won, axis=0)
            lost[i + 1 :] += won
        votes += np.arange(classes)[:, None]
        votes -= lost
        return votes_before(confidence, votes)
