"""Completion for bash that copes with `@HOST`; zsh and fish do with what click has.

Bash takes words apart at "@" and ":" (COMP_WORDBREAKS), so what click's own function hands over for
`@web1:8000` is four words, of which nobody can tell how they belonged together. This one hands over
the line as it was typed.
"""

from __future__ import annotations

import os

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

from gitopperd.ctl.text import visible

__all__ = ["register"]

# Of each candidate, bash wants what comes after the last place where it took the word apart.
SOURCE = r"""%(complete_func)s() {
    local IFS=$'\n' candidate
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:blank:]]}
    local before=${word%%"${word##*[$COMP_WORDBREAKS]}"}
    COMPREPLY=()
    for candidate in $(env COMP_LINE="$line" %(complete_var)s=bash_complete "$1"); do
        COMPREPLY+=("${candidate#"$before"}")
    done
}
complete -F %(complete_func)s %(prog_name)s
"""


class _BashComplete(ShellComplete):
    name = "bash"
    source_template = SOURCE

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the whole words before the cursor, without the command itself, and the one begun."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        if not words or line[-1:].isspace():
            return words, ""
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return one candidate; there are no files among them."""
        return visible(item.value)


def register() -> None:
    """Put it in the place of click's."""
    add_completion_class(_BashComplete)
