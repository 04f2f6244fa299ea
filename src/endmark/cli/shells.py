"""Scripts for the Tab key of three shells, made of tables of words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Values:
    """What an option or an argument may be: one of these words, or a path."""

    words: tuple[str, ...] = ()
    paths: str = ""
    """"files", which includes directories, or "directories", or "" for neither."""


@dataclass(frozen=True)
class Place:
    """A command, or an algorithm to train."""

    options: Mapping[str, Values | None] = field(default_factory=dict)
    """None for a switch, which takes no value."""
    argument: Values = Values()


@dataclass(frozen=True)
class Tables:
    """All that can be typed. Places are commands, and "train ALGORITHM" for each algorithm."""

    commands: Mapping[str, str]
    algorithms: Mapping[str, str]
    places: Mapping[str, Place]

    def by_values(self) -> Iterator[tuple[list[tuple[str, str]], Values]]:
        """Options that take the same values, each as a place and an option; the place is * if it is all."""
        found: dict[str, dict[Values | None, list[str]]] = {}
        for name, place in self.places.items():
            for option, values in place.options.items():
                found.setdefault(option, {}).setdefault(values, []).append(name)
        groups: dict[Values, list[tuple[str, str]]] = {}
        for option, kinds in found.items():
            for values, places in kinds.items():
                if values is not None:
                    names = ["*"] if len(kinds) == 1 else places
                    groups.setdefault(values, []).extend((name, option) for name in names)
        yield from ((pairs, values) for values, pairs in groups.items())


def bash(tables: Tables) -> str:
    """For bash 3.2 and later."""
    return f"""# endmark completion bash > ~/.local/share/bash-completion/completions/endmark
{_cases(tables)}
_endmark() {{
    # From the line itself: bash takes a colon in a name for the end of a word.
    local typed="${{COMP_LINE:0:COMP_POINT}}" words word previous place found paths cut IFS=$' \\t\\n'
    read -ra words <<< "$typed"
    [[ $typed == *[[:space:]] ]] && words+=("")
    local last=$(( ${{#words[@]}} - 1 ))
    word="${{words[last]}}" previous="${{words[last - 1]}}" place="${{words[1]}}"
    [[ $place == train ]] && place="train ${{words[2]}}"
    if [[ $word == --*=* ]]; then
        previous="${{word%%=*}}" word="${{word#*=}}"
    fi
    _endmark_words
    IFS=$'\\n'
    COMPREPLY=($(compgen -W "${{found// /$'\\n'}}" -- "$word"))
    case $paths in
        files) COMPREPLY+=($(compgen -f -- "$word")) ;;
        directories) COMPREPLY+=($(compgen -d -- "$word")) ;;
    esac
    if [[ -n $paths ]]; then
        compopt -o filenames 2> /dev/null
    fi
    cut="${{word%"${{word##*[:=]}}"}}"
    if [[ -n $cut && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"$cut"}}")
    fi
}}
complete -F _endmark endmark"""


def zsh(tables: Tables) -> str:
    """For zsh, with its completion system on."""
    lines = {
        name: " ".join(_quoted(f"{word}:{line}") for word, line in table.items())
        for name, table in (("commands", tables.commands), ("algorithms", tables.algorithms))
    }
    return f"""#compdef endmark
# endmark completion zsh > DIRECTORY/_endmark, a directory of $fpath
{_cases(tables)}
_endmark() {{
    local word="${{words[CURRENT]}}" previous="${{words[CURRENT-1]}}" place="${{words[2]}}"
    local last=$(( CURRENT - 1 )) found paths lines
    [[ $place == train ]] && place="train ${{words[3]}}"
    _endmark_words
    if (( last == 1 )) && [[ $word != -* ]]; then
        lines=({lines["commands"]})
        _describe command lines
    elif (( last == 2 )) && [[ $place == train* && $word != -* ]]; then
        lines=({lines["algorithms"]})
        _describe algorithm lines
    elif [[ -n $found ]]; then
        compadd -- ${{=found}}
    fi
    case $paths in
        files) _files ;;
        directories) _files -/ ;;
    esac
}}
if [[ $funcstack[1] == _endmark ]]; then
    _endmark "$@"
else
    compdef _endmark endmark
fi"""


def _cases(tables: Tables) -> str:
    """What bash and zsh read in the same way: from word, previous, place and last to found and paths."""
    of_option = "\n".join(
        f"        {'|'.join(_pattern(place, option) for place, option in pairs)})\n"
        f"            {_assigned(values)}; return ;;"
        for pairs, values in tables.by_values()
    )
    of_place = "\n".join(
        f"        {_quoted(name)})\n"
        f"            options={_quoted(' '.join(place.options))}; {_assigned(place.argument)} ;;"
        for name, place in tables.places.items()
    )
    return f"""_endmark_words() {{
    local options=
    found= paths=
    if (( last == 1 )); then
        found={_quoted(" ".join([*tables.commands, "--help", "--version"]))}
        return
    elif (( last == 2 )) && [[ $place == train* ]]; then
        found={_quoted(" ".join([*tables.algorithms, "--like", "--help"]))}
        return
    fi
    case "$place $previous" in
{of_option}
    esac
    case "$place" in
{of_place}
    esac
    if [[ $word == -* || ( -z $word && -z $found$paths ) ]]; then
        found=$options paths=
    elif [[ -z $found$paths ]]; then
        paths=files
    fi
}}"""


def _pattern(place: str, option: str) -> str:
    return f'*" {option}"' if place == "*" else f'"{place} {option}"'


def _assigned(values: Values) -> str:
    return f"found={_quoted(' '.join(values.words))} paths={values.paths}"


def _quoted(text: str) -> str:
    """The text in single quotes, which bash and zsh read alike."""
    return "'" + text.replace("'", "'\\''") + "'"


def fish(tables: Tables) -> str:
    """For fish 3 and later."""
    of_option = "\n".join(
        f"        case {' '.join(_escaped(f'{place} {option}') for place, option in pairs)}\n"
        f"            {_printed(values)}\n"
        f"            return"
        for pairs, values in tables.by_values()
    )
    of_place = "\n".join(
        f"        case {_escaped(name)}\n"
        f"            set options {' '.join(place.options)}"
        + (
            f'\n            if test -z "$dashed"\n'
            f"                {_printed(place.argument)}\n"
            f"                return\n"
            f"            end"
            if place.argument != Values()
            else ""
        )
        for name, place in tables.places.items()
    )
    return f"""# endmark completion fish > ~/.config/fish/completions/endmark.fish
function __endmark
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l last (count $words)
    set -l place $words[2]
    set -l options
    set -l dashed (string match -- '-*' $word)
    if test $last -eq 1
        printf '%s\\t%s\\n' {_described(tables.commands)}
        return
    end
    if test $place = train
        if test $last -eq 2
            printf '%s\\t%s\\n' {_described(tables.algorithms)}
            return
        end
        set place "train $words[3]"
    end
    switch "$place $words[-1]"
{of_option}
    end
    switch $place
{of_place}
    end
    if test -n "$dashed" -o -z "$word"
        printf '%s\\n' $options
    else
        __fish_complete_path $word
    end
end
complete -c endmark -f -a '(__endmark)'"""


def _described(table: Mapping[str, str]) -> str:
    return " ".join(f"{word} {_escaped(line)}" for word, line in table.items())


def _printed(values: Values) -> str:
    path = {"files": "__fish_complete_path $word", "directories": "__fish_complete_directories $word", "": ""}
    words = f"printf '%s\\n' {' '.join(values.words)}" if values.words else ""
    return "; and ".join(part for part in (words, path[values.paths]) if part) or "true"


def _escaped(text: str) -> str:
    """The text in single quotes, as fish reads them."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS: Mapping[str, Callable[[Tables], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
