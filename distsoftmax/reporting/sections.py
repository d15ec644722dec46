"""From runs to the sections of a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from distsoftmax.monitoring.advice import advice
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.monitoring.summary import Shares
from distsoftmax.reporting.blocks import Block, Cell, Facts, Section, Table
from distsoftmax.reporting.canvas import in_form
from distsoftmax.reporting.coefficients import coefficients_block
from distsoftmax.reporting.curves import course_of
from distsoftmax.reporting.diagrams import confusion_picture, path_picture, ranks_picture, reliability_picture
from distsoftmax.reporting.evaluation import Evaluation
from distsoftmax.reporting.headline import figures_of, sentences_of, status_of, subtitle_of
from distsoftmax.reporting.record import Record, finite, shown
from distsoftmax.reporting.run_facts import (
    chosen_options,
    command_line,
    data_facts,
    in_words,
    n_ranks_of,
    version_facts,
)
from distsoftmax.reporting.runs import PathOfRuns, Run

MOST_ROWS = 50  # of the table by class
MOST_PAIRS = 12  # of classes that are confused
LONGEST_PAIR = 30  # characters of a class


def section_of(run: Run | PathOfRuns) -> Section:
    """Return the section on a run or a path."""
    return _of_run(run, run) if isinstance(run, Run) else _of_path(run)


def _of_run(run: Run, whole: Run | PathOfRuns) -> Section:
    status, tone = status_of(run)
    return Section(
        name=shown(run.name),
        subtitle=subtitle_of(run),
        status=status,
        tone=tone,
        sentences=tuple(sentences_of(run)),
        figures=tuple(figures_of(run)),
        blocks=tuple(block for block in _blocks(run, whole) if block is not None),
    )


def _of_path(path: PathOfRuns) -> Section:
    n_in_all, run = len(path.values), path.chosen
    section, sentence = Section(name=shown(path.name), subtitle=f"a path of {n_in_all} values of l2"), ""
    if run is not None:
        section = _of_run(run, path)
        sentence = f", of which {len(path.legs)} are done; what follows is on the newest."
    if run is None or not path.is_chosen:
        stopped = "not begun" if run is None else "stopped early"
        is_live = path.state.is_live
        section = replace(section, status="still running" if is_live else stopped, tone="busy" if is_live else "warn")
    else:
        l2 = _l2_of(path)
        by = f", by its {shown(path.chosen_by)}" if path.chosen_by.startswith("held-out") else ""
        sentence = f"; chosen: l2 = {l2:g}{by}." if l2 is not None else ""
    first = [f"A path of {n_in_all} values of l2{sentence}"] if sentence else []
    return replace(
        section,
        sentences=(*first, *section.sentences, *path.remarks),
        blocks=(_path_block(path), *section.blocks),
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
            command=command,
        )
    if run.model is not None:
        yield coefficients_block(run.model, run.options)
    yield _time_block(run.state.whole or run.state.latest, run.state.balance)
    yield _data_block(run, whole)
    if run.options:
        yield Block(
            "To do it again",
            ("On any number of ranks the model has the same bits.",),
            command=command_line(whole.options, n_ranks_of(run), f"{whole.folder.name}-again"),
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

    def worst_first(scores: Record) -> tuple[bool, float]:
        f1 = scores.number("f1")
        return not scores.count("support"), 2.0 if f1 is None else f1

    ordered = sorted(evaluation.by_class.items(), key=lambda item: worst_first(item[1]))[:MOST_ROWS]
    rows = tuple(
        (
            Cell(shown(name)),
            Cell(in_form(scores.number("precision"), ".4f")),
            Cell(in_form(scores.number("recall"), ".4f")),
            Cell(in_form(scores.number("f1"), ".4f"), part=scores.number("f1")),
            Cell(f"{scores.count('support') or 0:,}"),
        )
        for name, scores in ordered
    )
    caption = "By class, the lowest F1 first"
    if len(rows) < len(evaluation.by_class):
        caption += f": {len(rows)} of {len(evaluation.by_class):,} classes"
    return Table(("class", "precision", "recall", "F1", "samples"), rows, caption)


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
        ("l2", "digits"),
        ("objective", ".8g"),
        ("certified_gap", "digits"),
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
            Cell(in_form(leg.number(name), form), is_best=chosen is not None and leg.number("l2") == chosen)
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
