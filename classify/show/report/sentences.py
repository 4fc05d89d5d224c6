"""What a section of the page says before its figures: the answer in a sentence, what else was found, and four facts."""

from classify.measure.wording import count, counted, duration, one_line, percent
from classify.show.report.documents import Document
from classify.show.report.folder import Section


def _spoken(document: Document) -> list[str]:
    """The sentences of a document's answer; a probe's first two, what is best and what it reaches, as one."""
    lines = [one_line(line) for line in document.body["answer"]]
    return [" ".join(lines[:2]), *lines[2:]] if document.is_probe else lines


def more_sentences(section: Section) -> list[tuple[str, list[str]]]:
    """(question, sentences) of each document, without the headline."""
    questions = []
    for document in section.documents:
        lines = _spoken(document)[1 if document is section.leading else 0 :]
        probed = "network and layer transfer" if _networks(document) else "layer transfers"
        questions.append((f"Which {probed} best" if document.is_probe else "Heads against networks", lines))
    return [(question, lines) for question, lines in questions if lines]


def _networks(document: Document) -> bool:
    """Whether a probe's document is about several networks."""
    return document.is_probe and any(row.get("backbone") for row in document.body["layers"])


def headline(section: Section) -> str:
    """The answer in a sentence: of the probe or comparison that found the best model, else of that single run."""
    if section.leading and section.leading.body["answer"]:
        return _spoken(section.leading)[0]
    if section.best.kind == "study":
        name = section.best.saved.path.name
        if study := next((study for study in section.studies if name in study.names), None):
            return one_line(" ".join([f"{study.name}.", *study.body["answer"][:1]]))
    result = section.best.saved.result
    low, high = result.metrics.accuracy_interval
    lead = f"Best on validation of {len(section.candidates)}: " if len(section.candidates) > 1 else ""
    reached = f"{percent(result.metrics.accuracy)} % of {counted(result.metrics.n, 'test image')}"
    return f"{lead}{section.best.name} is right on {reached} (95 % interval {percent(low)} to {percent(high)})."


def facts(section: Section) -> list[tuple[str, str, str]]:
    """(value, what it is, detail) of the model best on validation."""
    result = section.best.saved.result
    low, high = result.metrics.accuracy_interval
    networks = {model.saved.result.config.backbone for model in section.candidates} - {None}
    name = section.best.plain
    if len(networks) > 1 and result.config.backbone:
        name += f" of {one_line(result.config.backbone)}"
    shown = [
        (f"{percent(result.metrics.accuracy)} %", "of the test images right", f"{percent(low)} to {percent(high)}"),
        (name, "best on validation", f"{percent(result.validation_accuracy)} % there"),
    ]
    wrong = result.metrics.n - result.metrics.correct
    shown.append((count(wrong), f"test image{'' if wrong == 1 else 's'} wrong", f"of {count(result.metrics.n)}"))
    took = [result.seconds[step] for step in ("extract", "search", "fit") if step in result.seconds]
    if took:
        shown.append((duration(sum(took)), "until it could predict", "extract, search, train"))
    return shown


def notes(section: Section) -> list[str]:
    """What the documents left out, and what the page does."""
    lines = [one_line(note) for document in section.documents for note in document.body["notes"]]
    if section.left_out:
        are = "is" if section.left_out == 1 else "are"
        further = counted(section.left_out, "further result")
        lines.append(f"{further}, worse on validation, {are} not shown, to keep the page small")
    return lines
