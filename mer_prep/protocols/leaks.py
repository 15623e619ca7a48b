"""What must never be on both sides of a fold: a clip, its copy, or a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mer_prep.errors import ConfigError, LeakError
from mer_prep.protocols.folds import Fold, Member

#: Corpora that show the people of another one under the same numbers.
SAME_PEOPLE = {"samm_lv": "samm"}

#: A subject that is a number, with or without a word for "subject" and leading zeros.
_NUMBERED = re.compile(r"(?:s|sub|subj|subject|sp|spno)?[\s._-]*0*(\d+)")

#: What augmentation scripts add to the name of a clip.
_COPY = re.compile(
    r"[\s._-]+\(?(?:h?flip(?:ped)?|mirror(?:ed)?|aug(?:mented)?|copy|rot(?:ated|ation)?|nois[ey]"
    r"|mag(?:nified)?|blur(?:red)?|crop(?:ped)?|shift(?:ed)?|bright|dark)[\s._+-]*\(?\d*\)?$",
    re.IGNORECASE,
)


def person(member: Member) -> str:
    """Return who a subject is, whatever the spelling: ``casme2/1`` for ``casme2/sub01``.

    Case, leading zeros and a word for "subject" do not make another person, nor does another name
    of the corpus in the workspace, and the people of SAMM Long Videos are those of SAMM.
    """
    return person_of(member.subject, population=member.population)


def person_of(name: str, *, population: str = "") -> str:
    """Return who a subject ``<corpus>/<subject>`` is; see `person`."""
    corpus, _, subject = name.partition("/")
    shown = population or corpus
    return f"{SAME_PEOPLE.get(shown, shown)}/{person_name(subject)}"


def person_name(subject: str) -> str:
    """Return the one spelling of a subject within its corpus: ``1`` for ``sub01`` and ``s1``."""
    name = subject.strip().casefold()
    numbered = _NUMBERED.fullmatch(name)
    return numbered[1] if numbered else name


def original(member: Member) -> str:
    """Return the clip that an augmented copy was made of, or the clip itself, by its names.

    ``casme2/sub01/EP02_01f_flip`` and ``casme2/1/EP02_01f`` both give ``casme2/1/ep02_01f``.
    """
    name = member.clip_id.rpartition("/")[2].casefold()
    while (shorter := _COPY.sub("", name)) != name and shorter:
        name = shorter
    return f"{person(member)}/{name}"


def check_folds(
    folds: Sequence[Fold],
    members: Iterable[Member],
    *,
    subjects_may_recur: bool = False,
    tests_all: bool = False,
) -> None:
    """Raise `LeakError` if what is tested was also trained on.

    Parameters
    ----------
    folds : sequence of Fold
        The folds.
    members : iterable of Member
        All their clips.
    subjects_may_recur : bool
        Whether a person may be on both sides, as leave-one-video-out has it; clips and their
        copies may never.
    tests_all : bool
        Whether every clip must be tested.

    Raises
    ------
    ConfigError
        If two folds have one name, or with `tests_all` a clip is not tested.
    LeakError
        If a clip, an augmented copy of it, the same frames under another name or, unless
        `subjects_may_recur`, a person is on both sides of a fold; if a clip is tested twice; or
        if a fold has an empty side or names a clip that is not a member.
    """
    by_id = {one.clip_id: one for one in members}
    checks = [one for one in _identities(by_id) if not (subjects_may_recur and one.personal)]
    tested: dict[str, str] = {}
    if len({fold.name for fold in folds}) < len(folds):
        raise ConfigError("Two folds have the same name.", hint="give every fold its own")
    for fold in folds:
        trained = set(fold.train)
        _check_names(fold, by_id, trained)
        for check in checks:
            _check_sides(fold, check, trained)
        for clip in fold.test:
            if clip in tested:
                raise LeakError(
                    f"Clip {clip} is tested in folds {tested[clip]} and {fold.name}.",
                    why="it would be counted twice",
                    hint="test every clip in one fold: mer-prep composite --protocol NAME",
                )
            tested[clip] = fold.name
    untested = [clip for clip in by_id if clip not in tested]
    if tests_all and untested:
        raise ConfigError(
            f"{len(untested)} of {len(by_id)} clips are in no fold's test: "
            f"{', '.join(untested[:3])}.",
            why="a score of some of the clips is not that of all",
            hint="make the folds with these clips: mer-prep composite --protocol NAME",
        )


@dataclass(frozen=True)
class _Identity:
    """Something that may be on one side of a fold only, by clip id; empty where unknown.

    `apart` says of two clips that it is not the same after all.
    """

    what: str
    hint: str
    keys: Mapping[str, str]
    personal: bool = False
    apart: Callable[[str, str], bool] | None = None

    @cached_property
    def clips(self) -> Mapping[str, list[str]]:
        """The clips of every key, so that a fold is asked only for those it tests."""
        found: dict[str, list[str]] = {}
        for clip, key in self.keys.items():
            if key:
                found.setdefault(key, []).append(clip)
        return found


def _identities(by_id: Mapping[str, Member]) -> list[_Identity]:
    def keys(of: Callable[[Member], str]) -> dict[str, str]:
        return {clip_id: of(member) for clip_id, member in by_id.items()}

    return [
        _Identity("the same clip", "split by subject", keys(lambda one: one.clip_id)),
        _Identity(
            "the same frames under two names",
            "leave one of them out: the same folder was imported twice, or copied",
            keys(lambda one: one.source_digest),
            apart=lambda one, other: not by_id[one].overlaps(by_id[other]),
        ),
        _Identity("a clip and an augmented copy of it", "augment in training only", keys(original)),
        _Identity(
            "the same person",
            "split by subject, and spell every subject in one way",
            keys(person),
            personal=True,
        ),
    ]


def _check_names(fold: Fold, by_id: Mapping[str, Member], trained: set[str]) -> None:
    foreign = (trained | set(fold.test)) - by_id.keys()
    if foreign:
        first = next(clip for side in fold.sides for clip in side if clip in foreign)
        raise LeakError(
            f"Fold {fold.name} names {first}, which is not among the clips.",
            hint="take the folds that were made with these clips",
        )
    if not fold.test or not fold.train:
        raise LeakError(
            f"Fold {fold.name} {'trains on' if fold.test else 'tests'} nothing.",
            hint="give every fold clips on both sides",
        )


def _check_sides(fold: Fold, identity: _Identity, trained: set[str]) -> None:
    seen: set[str] = set()
    for clip in fold.test:
        key = identity.keys[clip]
        if key in seen:
            continue
        if identity.apart is None:
            seen.add(key)  # another clip of the key would meet the same ones
        for other in identity.clips.get(key, ()):
            if other not in trained or (identity.apart and identity.apart(clip, other)):
                continue
            pair = clip if clip == other else f"{other} and {clip}"
            raise LeakError(
                f"Fold {fold.name} has {identity.what} in training and test: {pair}.",
                why="a model would be scored on what it was trained on",
                hint=identity.hint,
            )
