#!/usr/bin/env python
"""Print every mutant of a module that cosmic-ray makes: a JSON text per line, the module's whole text as it became.

It runs in the environment of cosmic-ray (mutate.py sees to that), which is why it is a program of its own.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.plugins import get_operator, operator_names

#: Mutants that mean the same: comparisons by identity of what is compared by value and the reverse, "|" inside of type
#: annotations, and orders of texts that are only ever equal or not. And those that have to be told a variable's name.
POINTLESS = re.compile(
    r"core/(ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)"
    r"|ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq)"
    r"|ReplaceComparisonOperator_(Eq|NotEq)_(Lt|LtE|Gt|GtE)"
    r"|ReplaceBinaryOperator_BitOr_.*"
    r"|RemoveDecorator|VariableReplacer|VariableInserter)"
)


def main(path: str) -> None:
    """Print the mutants of the module at ``path``."""
    source = Path(path).read_text()
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    nodes = list(ast_nodes(parso.parse(source)))
    for name in operator_names():
        if POINTLESS.fullmatch(name):
            continue
        operator = get_operator(name)()
        for node in nodes:
            for index, (start, _end) in enumerate(operator.mutation_positions(node)):
                line = source[lines[start[0] - 1] : lines[start[0]]]
                # Only type checkers read what is imported there, nobody tries to change what is frozen, and the star
                # before parameters that have to be named multiplies nothing.
                if (
                    "TYPE_CHECKING" in line
                    or node.search_ancestor("decorator")
                    or (node.type == "operator" and node.parent.type in ("parameters", "param"))
                ):
                    continue
                (first, column), (last, end) = node.start_pos, node.end_pos
                # The node alone is copied, not the tree above it: to parse all anew takes longer than the tests.
                try:
                    mutant = operator.mutate(copy.deepcopy(node, {id(node.parent): node.parent}), index)
                except AttributeError:
                    # It replaces no exception of a module, such as yaml.YAMLError.
                    continue
                became = mutant.get_code().removeprefix(node.get_first_leaf().prefix)
                text = source[: lines[first - 1] + column] + became + source[lines[last - 1] + end :]
                sys.stdout.write(json.dumps(text) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
