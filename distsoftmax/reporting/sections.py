"""From runs to the sections of a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from distsoftmax.monitoring.advice import advice
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.monitoring.summary import Shares
from distsoftmax.reporting.blocks import Block, Cell, Code, Facts, Section, Table
from distsoftmax.reporting.canvas import UNKNOWN, in_digits
from distsoftmax.reporting.coefficients import coefficients_block
from distsoftmax.reporting.curves import course_of
from distsoftmax.reporting.diagrams import confusion_picture, path_picture, ranks_picture, reliability_picture
from distsoftmax.reporting.evaluation import ClassScores, Evaluation
from distsoftmax.reporting.headline import figures_of, sentences_of, status_of, subtitle_of
from distsoftmax.reporting.record import Record, finite, shown
from distsoftmax.reporting.run_facts import chosen_options, data_facts, in_words, repetition, version_facts
from distsoftmax.reporting.runs import PathOfRuns, Run

MOST_ROWS = 50  # of the table by class
MOST_PAIRS = 12  # of classes that are confused
LONGEST_PAIR = 30  # characters of a class


def section_of(run: Run | PathOfRuns, *, asked_for: bool = False) -> Section:
    """Return the section on a run or a path; `asked_for`: its evaluation is one that was asked for."""
    return _of_run(run, run, asked_for) if isinstance(run, Run) else _of_path(run, asked_for)


def _of_run(run: Run, whole: Run | PathOfRuns, asked_for: bool) -> Section:
    status, tone = status_of(run)
    return Section(
        name=shown(run.name),
        subtitle=subtitle_of(run),
        status=status,
        tone=tone,
        sentences=tuple(sentences_of(run)),
        figures=tuple(figures_of(run, asked_for=asked_for)),
        blocks=tuple(block for block in _blocks(run, whole) if block is not None),
    )


def _of_path(path: PathOfRuns, asked_for: bool) -> Section:
    n_done, n_in_all = len(path.legs), len(path.values)
    block = _path_block(path)
    if path.chosen is None:
        return Section(
            name=shown(path.name),
            subtitle=f"a path of {n_in_all} values of l2",
            status="still running" if path.state.is_live else "not begun",
            tone="busy" if path.state.is_live else "warn",
            sentences=path.remarks,
            blocks=(block,),
        )
    section = _of_run(path.chosen, path, asked_for)
    if path.is_chosen:
        l2 = _l2_of(path)
        by = f", by its {shown(path.chosen_by)}" if path.chosen_by.startswith("held-out") else ""
        sentence = f"A path of {n_in_all} values of l2; chosen: l2 = {l2:g}{by}." if l2 is not None else ""
        return replace(
            section,
            sentences=tuple(filter(None, (sentence, *section.sentences, *path.remarks))),
            blocks=(block, *section.blocks),
        )
    busy = path.state.is_live
    return replace(
        section,
        status="still running" if busy else "stopped early",
        tone="busy" if busy else "warn",
        sentences=(
            f"A path of {n_in_all} values of l2, of which {n_done} are done; what follows is on the newest.",
            *section.sentences,
            *path.remarks,
        ),
        blocks=(block, *section.blocks),
    )


def _blocks(run: Run, whole: Run | PathOfRuns) -> Iterator[Block | None]:
    pictures = tuple(course_of(run, finite(run.options.get("tolerance"))))
    if pictures:
        yield Block("Course of training", pictures=pictures)
    if run.evaluation is not None:
        yield from _evaluation_blocks(run.evaluation, run.evaluated_on)
    elif run.model is not None:
        command = f"python -m distsoftmax.evaluate {run.folder.name} --data ... --json > evaluation.json"
        yield Block(
            "Scores by class",
            ("They are not in this run's folder. This measures them on any samples, and --evaluation shows them:",),
            code=(Code(command),),
        )
    if run.model is not None:
        yield coefficients_block(run.model, run.options)
    yield _time_block(run.state.whole or run.state.latest, run.state.balance)
    yield _data_block(run, whole)
    if run.options:
        yield Block(
            "To do it again",
            ("On any number of ranks the model has the same bits.",),
            code=(Code(repetition(run, whole.options, whole.folder)),),
            facts=(Facts(tuple(version_facts(run))),),
        )


def _data_block(run: Run, whole: Run | PathOfRuns) -> Block:
    options = tuple((f"--{name}", in_words(value)) for name, value in chosen_options(whole.options).items())
    facts = (Facts(tuple(data_facts(run)), "Data"), Facts(options, "Options that are not as by default"))
    return Block("Data and options", facts=tuple(each for each in facts if each.rows))


def _evaluation_blocks(evaluation: Evaluation, on: str) -> Iterator[Block]:
    drawn = (confusion_picture(evaluation, on), reliability_picture(evaluation, on))
    pairs = evaluation.most_confused(MOST_PAIRS)
    rows = tuple(
        (
            Cell(f"{shown(pair.true, LONGEST_PAIR)} → {shown(pair.predicted, LONGEST_PAIR)}"),
            Cell(f"{pair.samples:,}", part=pair.samples / pairs[0].samples),
            Cell(f"{pair.part:.1%}"),
        )
        for pair in pairs
    )
    caption = "Most often confused"
    confused = (Table(("true → predicted", "samples", "of the class"), rows, caption),) if rows else ()
    yield Block(
        "Scores by class",
        (f"On {evaluation.n_samples:,} {on} samples.",),
        pictures=tuple(picture for picture in drawn if picture is not None),
        tables=(_class_table(evaluation), *confused),
    )


def _class_table(evaluation: Evaluation) -> Table:
    """Return the scores by class, the worst first; classes without samples come last."""

    def worst_first(scores: ClassScores) -> tuple[bool, float]:
        return not scores.support, scores.f1 if scores.f1 is not None else 2.0

    ordered = sorted(evaluation.by_class, key=worst_first)[:MOST_ROWS]
    rows = tuple(
        (
            Cell(shown(scores.name)),
            Cell(_score(scores.precision)),
            Cell(_score(scores.recall)),
            Cell(_score(scores.f1), part=scores.f1),
            Cell(f"{scores.support:,}"),
        )
        for scores in ordered
    )
    caption = "By class, the lowest F1 first"
    if len(rows) < len(evaluation.by_class):
        caption += f": {len(rows)} of {len(evaluation.by_class):,} classes"
    return Table(("class", "precision", "recall", "F1", "samples"), rows, caption)


def _score(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}"


def _time_block(report: ClusterReport | None, balance: str) -> Block | None:
    if report is None:
        return None
    shares = Shares.of(report)
    sentences = []
    if shares is not None:
        sentences.append(
            f"Of the time of the steps {shares.efficiency:.0%} went into computing, {shares.waiting:.0%} into waiting "
            f"for slower ranks, {shares.messages:.0%} into messages, {shares.rest:.0%} into what every rank does alike."
        )
    sentences += [f"{sentence[0].upper()}{sentence[1:]}." for sentence in advice(report, balance)]
    rows = tuple(
        (
            Cell(f"{rank.rank}"),
            Cell(shown(rank.node, 24)),
            Cell(f"{rank.shards:,}"),
            Cell(f"{rank.rows:,}"),
            *(Cell(f"{value:.3g}") for value in (rank.read_seconds, rank.compute_seconds)),
            *(Cell(f"{value:.3g}") for value in (rank.wait_seconds, rank.save_seconds)),
        )
        for rank in report.ranks
    )
    head = ("rank", "node", "shards", "rows", "read s", "compute s", "wait s", "save s")
    picture = ranks_picture(report)
    return Block("Where the time went", tuple(sentences), pictures=(picture,), tables=(Table(head, rows),))


def _path_block(path: PathOfRuns) -> Block:
    chosen = _l2_of(path) if path.is_chosen else None
    picture = path_picture(path.legs, chosen)
    numbers = (
        ("l2", ".1e"),
        ("objective", ".8g"),
        ("certified_gap", ".1e"),
        ("steps", ",.0f"),
        ("seconds", ".1f"),
        ("nonzero_coefficients", ",.0f"),
        ("training_accuracy", ".4f"),
        ("training_log_loss", ".5f"),
        ("held_out_accuracy", ".4f"),
        ("held_out_log_loss", ".5f"),
    )
    rows = tuple(
        tuple(
            Cell(_number(leg, name, form), is_best=chosen is not None and leg.number("l2") == chosen)
            for name, form in numbers
        )
        for leg in path.legs
    )
    head = tuple(name.replace("_", " ").replace("held out", "held-out") for name, _ in numbers)
    sentences = () if rows else ("No run of the path is done yet.",)
    return Block(
        "The path",
        sentences,
        pictures=(picture,) if picture else (),
        tables=(Table(head, rows, "The runs of the path, the chosen one in bold" if chosen is not None else ""),)
        if rows
        else (),
    )


def _l2_of(path: PathOfRuns) -> float | None:
    folder = path.chosen.folder.name if path.chosen else ""
    return next((leg.number("l2") for leg in path.legs if (leg.text("folder") or "").endswith(f"/{folder}")), None)


def _number(leg: Record, name: str, form: str) -> str:
    value = leg.number(name)
    if value is None:
        return UNKNOWN
    return in_digits(value, 2) if form == ".1e" else f"{value:{form}}"
