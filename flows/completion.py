"""The command ``completion``: a script that lets a shell complete commands, options, recipe fields and their words."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from flows.command import DebugOption, JsonOption, begin, give

PROGRAM = "sft-composer"

BASH = """\
_sft_composer_completion() {
    local IFS=$' \\t\\n' line="${COMP_LINE:0:COMP_POINT}" last i
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last="${words[-1]}"
    IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="$line" COMP_CWORD=$((${#words[@]} - 1)) _SFT_COMPOSER_COMPLETE=complete_bash "$1" 2>/dev/null))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    if [[ $last == *=* && $COMP_WORDBREAKS == *=* ]]; then
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]="${COMPREPLY[i]#*=}"; done
    fi
}
complete -o default -F _sft_composer_completion sft-composer
"""
"""Unlike Typer's own, it takes key=value for one word, which bash cuts at the sign, and sets no space after the sign."""

FIRST = """\
if [[ $funcstack[1] == _sft-composer ]]; then
  _sft_composer_completion "$@"
fi
"""
"""zsh reads the file as the body of a function at the first tab, and Typer's script then defines, and completes nothing."""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell to write for.", show_default=False)],
    as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Print a script that completes commands and recipe fields in a shell."""
    begin(as_json, debug)
    text = script(shell)
    give({"shell": shell, "script": text}, lambda: print(text, end=""))


def script(shell: str) -> str:
    """Return the script of a shell, to be read by it when it starts."""
    if shell == "bash":
        return BASH
    import typer.completion as own

    text = own.get_completion_script(  # type: ignore[attr-defined]
        prog_name=PROGRAM, complete_var="_SFT_COMPOSER_COMPLETE", shell=shell
    )
    return f"{text}\n" if shell == "fish" else f"{text}\n{FIRST}"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Use")(completion)
