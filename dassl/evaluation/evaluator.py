"""Accuracy, macro-averaged F1, per-class accuracy and confusion matrix, printed in Dassl's lines."""

import os
from collections import OrderedDict

import numpy as np
import torch

from dassl.utils import InputError, mkdir_if_missing, replace_file

from .build import EVALUATOR_REGISTRY


class EvaluatorBase:
    """Collects batches in `process`, and turns them into results in `evaluate`."""

    def __init__(self, cfg):
        self.cfg = cfg

    def reset(self):
        raise NotImplementedError

    def process(self, mo, gt):
        raise NotImplementedError

    def evaluate(self):
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """After `evaluate`, `results` has the numbers, unrounded, in percent, and `classwise` those of every label.

    `confused` says for what the others were taken: label -> label that was answered -> images.
    """

    def __init__(self, cfg, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.results: OrderedDict = OrderedDict()
        self.classwise: dict[int, dict] = {}
        self.confused: dict[int, dict[int, int]] = {}
        self.reset()

    def reset(self) -> None:
        self._y_true: list[torch.Tensor] = []
        self._y_pred: list[torch.Tensor] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Model output (B, C) and labels (B,) of one batch; they stay where they are until all are asked for."""
        self._y_pred.append(mo.argmax(dim=1))
        self._y_true.append(gt)

    def evaluate(self) -> OrderedDict:
        if not self._y_true:
            raise InputError("There is nothing to evaluate: no image was classified.")
        true, pred = (torch.cat(parts).cpu().numpy() for parts in (self._y_true, self._y_pred))
        total, correct = len(true), int((true == pred).sum())
        accuracy = 100.0 * correct / total
        macro_f1 = 100.0 * macro_f1_of(true, pred)
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=macro_f1)
        print(
            "=> result\n"
            f"* total: {total:,}\n"
            f"* correct: {correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {100.0 - accuracy:.1f}%\n"
            f"* macro_f1: {macro_f1:.1f}%"
        )
        self.classwise = self._by_class(true, pred)
        self.confused = confusions(true, pred)
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_by_class()
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix(true, pred)
        self.results = results
        return results

    def _by_class(self, true: np.ndarray, pred: np.ndarray) -> dict[int, dict]:
        totals = np.bincount(true)
        corrects = np.bincount(true[true == pred], minlength=len(totals))
        return {
            int(label): {
                "name": (self._lab2cname or {}).get(int(label), str(label)),
                "total": int(totals[label]),
                "correct": int(corrects[label]),
                "accuracy": 100.0 * int(corrects[label]) / int(totals[label]),
            }
            for label in np.flatnonzero(totals)
        }

    def _print_by_class(self) -> float:
        print("=> per-class result")
        for label, entry in self.classwise.items():
            print(
                f"* class: {label} ({entry['name']})\ttotal: {entry['total']:,}\tcorrect: {entry['correct']:,}\tacc: {entry['accuracy']:.1f}%"
            )
        mean = float(np.mean([entry["accuracy"] for entry in self.classwise.values()]))
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion_matrix(self, true: np.ndarray, pred: np.ndarray) -> None:
        """Rows are true classes, and each sums to one."""
        matrix = confusion_matrix(true, pred)
        mkdir_if_missing(self.cfg.OUTPUT_DIR)
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        replace_file(path, lambda file: torch.save(torch.from_numpy(matrix), file))
        print(f"Confusion matrix is saved to {path}")


def macro_f1_of(true: np.ndarray, pred: np.ndarray) -> float:
    """The mean over the classes that occur in `true` of F1 = 2 hits / (images of the class + predictions of it).

    `true` and `pred` are labels (n,), from 0.
    """
    count = 1 + max(true.max(), pred.max())
    hits, occurs, named = (np.bincount(labels, minlength=count) for labels in (true[true == pred], true, pred))  # (C,)
    there = occurs > 0
    return float(np.mean(2 * hits[there] / (occurs + named)[there]))


def confusions(true: np.ndarray, pred: np.ndarray) -> dict[int, dict[int, int]]:
    """Label -> label that was answered in its place -> how many images; of labels (n,), those of wrong answers alone."""
    wrong = np.stack([true, pred])[:, true != pred]  # (2, wrong ones)
    pairs, counts = np.unique(wrong, axis=1, return_counts=True)  # (2, k), (k,)
    found: dict[int, dict[int, int]] = {}
    for label, answer, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        found.setdefault(label, {})[answer] = count
    return found


def confusion_matrix(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """(k, k): of the images of each class, the share that is taken for each; over the k classes that occur in either."""
    labels, codes = np.unique(np.concatenate([true, pred]), return_inverse=True)  # (k,), (2n,)
    k, (rows, columns) = len(labels), np.split(codes, 2)
    counts = np.bincount(k * rows + columns, minlength=k * k).reshape(k, k)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # a class that is only predicted has a row of 0
