"""Statements compiled and asked: for classes of principals and resources, and for single calls by their arguments.

Cedar is asked as little as can be. What a statement's scope says (who, which action, of what) is looked up here, and
only statements in whose scope a question lies go to Cedar, with what their conditions read. A `forbid` whose condition
fails to be evaluated holds, a `permit` whose condition fails does not permit: Cedar by itself ignores both.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

import cedarpy

from node.guard.cedar.entities import reference, resource_entity, resource_uid, surroundings
from node.guard.cedar.reading import Uid
from node.guard.cedar.statements import Json, Statement, policy_set
from node.ports import Resource
from proto import jsons

log = logging.getLogger("toolmesh.guard")

COMPILED_MAX = 2_048
"""Sets of statements kept compiled; beyond it the one used longest ago is compiled again."""

ENTITIES_MAX = 1_024
"""Pairs of a class of principals and a resource that are kept parsed; beyond it the oldest is parsed again."""

QUESTIONS_MAX = 1_024
"""Likewise of those that depend on arguments; beyond it the oldest is put together again."""

ANSWERS_MAX = 64
"""Of one question; at the bound all are forgotten. What policies read of arguments is often one of few words."""

_UNASKED_BECAUSE = "Cedar could not be asked; what it was asked about is refused"
_ERRED = re.compile(r"policy `([^`]*)`")


class Answer(Enum):
    YES = "yes"
    NO = "no"
    DEPENDS = "depends"
    """On the arguments."""


class Verdict(NamedTuple):
    """`label` names the statement that decided, empty where none did.

    Where it depends on arguments, `permit` names a statement that permits whatever they are, unless another forbids.
    """

    answer: Answer
    label: str = ""
    permit: str = ""


UNASKED = Verdict(Answer.NO, "Cedar, which could not be asked")
"""Of one question, not of its class: the next may be answered."""


class Who(NamedTuple):
    """A principal as statements see it; `entity` is its JSON form."""

    uid: Uid
    held: frozenset[Uid]
    entity: Json


class Question(NamedTuple):
    """What is asked of Cedar, all but the context: put together once for those who keep asking.

    `otherwise` is the verdict where none of `statements` (by id) holds. `read` are the arguments that they read,
    `answers` what was said of such, by digest. `who` is kept so that its objects stay its own.
    """

    who: Who
    otherwise: Verdict
    answers: dict[bytes, Verdict]
    statements: Mapping[str, Statement] = MappingProxyType({})
    read: frozenset[str] = frozenset()
    request: Mapping[str, Any] = MappingProxyType({})
    policies: cedarpy.PolicySet | str = ""
    entities: cedarpy.Entities | str = "[]"


class Engine:
    """Thread-unsafe: for the loop. Only the compiled sets are kept here; verdicts are kept by who asks."""

    def __init__(self) -> None:
        self._compiled: OrderedDict[tuple[str, ...], cedarpy.PolicySet] = OrderedDict()
        self._entities: OrderedDict[tuple[int, Resource], tuple[Who, cedarpy.Entities]] = OrderedDict()
        self._questions: OrderedDict[tuple[int, str, Resource], Question] = OrderedDict()
        self.asked = 0
        """Evaluations by Cedar so far."""

    def __repr__(self) -> str:
        return f"Engine({len(self._compiled)} sets compiled, Cedar asked {self.asked} times)"

    def judge(self, statements: Sequence[Statement], who: Who, action: str, resource: Resource) -> Verdict:
        """Of `statements` that apply to `who` and `action`: what they say of the resource, arguments apart."""
        concerned = _concerned(statements, resource)
        if not concerned:
            return Verdict(Answer.NO)
        verdict = self._evaluate(concerned, _most, who, action, resource)
        if verdict.answer is Answer.NO or not any(s.asks_arguments for s in concerned):
            return verdict
        surely = self._evaluate(concerned, _least, who, action, resource)
        if surely.answer is Answer.YES:
            return surely
        permits = [s for s in concerned if s.permits and not s.asks_arguments]
        known = self._evaluate(permits, _as_written, who, action, resource)
        return Verdict(Answer.DEPENDS, surely.label or verdict.label, known.label)

    def question(
        self, statements: Sequence[Statement], who: Who, action: str, resource: Resource, permit: str = ""
    ) -> Question:
        """What of `statements` depends on arguments. `permit` is the verdict's without them.

        What does not read arguments has been asked: no such statement forbids, or it would not depend.
        """
        asking = [s for s in _concerned(statements, resource) if s.asks_arguments]
        made = self._question(asking, _as_written, who, action, resource, permit)
        # Of what a caller makes up nothing is kept, and what could not be compiled is tried again.
        if resource.listed and made.otherwise is not UNASKED:
            self._questions[id(who.entity), action, resource] = made
            if len(self._questions) > QUESTIONS_MAX:
                self._questions.popitem(last=False)
        return made

    def known_question(self, who: Who, action: str, resource: Resource) -> Question | None:
        """The `question` that was asked before of this one."""
        return self._questions.get((id(who.entity), action, resource))

    def answer(self, question: Question, arguments: Json) -> Verdict:
        """YES or NO, by `arguments` in Cedar's JSON form: those that the question reads."""
        if not question.statements:
            return question.otherwise
        context = jsons.dumps({"arguments": arguments})
        # Not the arguments themselves: they may be long, and secret.
        key = hashlib.sha256(context).digest()
        known = question.answers.get(key)
        if known is None:
            known = self._answer(question, context)
            if known is not UNASKED:
                if len(question.answers) >= ANSWERS_MAX:
                    question.answers.clear()
                question.answers[key] = known
        return known

    def _answer(self, question: Question, context: bytes) -> Verdict:
        permitted = question.otherwise.label
        for statement_id in self._ask(question, context) if question.statements else ():
            held = question.statements.get(statement_id)
            if held is None:
                return UNASKED
            if not held.permits:
                return Verdict(Answer.NO, held.label)
            permitted = permitted or held.label
        return Verdict(Answer.YES, permitted) if question.statements and permitted else question.otherwise

    def _evaluate(
        self,
        statements: Sequence[Statement],
        form: Callable[[Statement], Json],
        who: Who,
        action: str,
        resource: Resource,
    ) -> Verdict:
        return self._answer(self._question(statements, form, who, action, resource), b"{}")

    def _question(
        self,
        statements: Sequence[Statement],
        form: Callable[[Statement], Json],
        who: Who,
        action: str,
        resource: Resource,
        permitted: str = "",
    ) -> Question:
        # A statement without conditions applies to all in its scope, and Cedar need not be asked.
        for s in statements:
            if not s.permits and not s.conditional:
                return Question(who, Verdict(Answer.NO, s.label), {})
        permitted = permitted or next((s.label for s in statements if s.permits and not s.conditional), "")
        otherwise = Verdict(Answer.YES, permitted) if permitted else Verdict(Answer.NO)
        open_ones = {s.id: s for s in statements if s.conditional and not (permitted and s.permits)}
        if not open_ones:
            return Question(who, otherwise, {})
        request = {
            "principal": reference(who.uid),
            "action": {"type": "Action", "id": action},
            "resource": reference(resource_uid(resource)),
        }
        entities = self._entities_of(who, resource)
        try:
            policies = self._set(list(open_ones.values()), form)
        except Exception:
            log.exception(_UNASKED_BECAUSE)
            return Question(who, UNASKED, {})
        read = frozenset(name for s in open_ones.values() for name in s.reads.arguments)
        return Question(who, otherwise, {}, open_ones, read, request, policies, entities)

    def _ask(self, question: Question, context: bytes) -> list[str]:
        """The ids of the statements that hold; an unknown id where Cedar could not say."""
        # It names only the forbids, as soon as one holds, and that is all that is needed then.
        self.asked += 1
        request = {**question.request, "context": context.decode()}
        try:
            result = cedarpy.is_authorized(request, question.policies, question.entities)
        except Exception:
            log.exception(_UNASKED_BECAUSE)
            return [""]
        if result.decision is cedarpy.Decision.NoDecision:
            return [""]
        diagnostics = result.diagnostics
        held = list(diagnostics.reasons)
        for error in diagnostics.errors:
            erred = _ERRED.search(error)
            if erred is None:
                return [""]
            failed = question.statements.get(erred[1])
            if failed is None or not failed.permits:
                held.append(erred[1])
        return held

    def _entities_of(self, who: Who, resource: Resource) -> cedarpy.Entities:
        """Parsed once for those who keep asking; the key's objects are kept, so that it stays theirs."""
        key = (id(who.entity), resource)
        known = self._entities.get(key)
        if known is None:
            text = jsons.dumps([who.entity, resource_entity(resource)]).decode()
            known = who, cedarpy.Entities.from_json_str(text)
            if not resource.listed:
                return known[1]
            self._entities[key] = known
            if len(self._entities) > ENTITIES_MAX:
                self._entities.popitem(last=False)
        return known[1]

    def _set(self, statements: Sequence[Statement], form: Callable[[Statement], Json]) -> cedarpy.PolicySet:
        key = (form.__name__, *(s.id for s in statements))
        known = self._compiled.get(key)
        if known is None:
            text = json.dumps(policy_set((s.id, form(s)) for s in statements))
            known = self._compiled[key] = cedarpy.PolicySet.from_json_str(text)
            if len(self._compiled) > COMPILED_MAX:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(key)
        return known


def _concerned(statements: Sequence[Statement], resource: Resource) -> list[Statement]:
    around, itself = surroundings(resource), resource_uid(resource)
    return [s for s in statements if s.concerns(around, itself)]


def _as_written(s: Statement) -> Json:
    return s.body


def _most(s: Statement) -> Json:
    """Whatever can be permitted is, and what need not be forbidden is not."""
    return s.could if s.permits else s.must


def _least(s: Statement) -> Json:
    """What is permitted whatever the arguments are."""
    return s.must if s.permits else s.could
