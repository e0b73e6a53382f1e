# Completion of gradc for bash. Verbs, options and passes come from the program's own help.
_gradc() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 && $cur != -* ]]; then
        COMPREPLY=($(compgen -W "$(gradc --help | awk '/^verbs/ {v = 1; next} /^$/ {v = 0} v {print $1}')" -- "$cur"))
        return
    fi
    case $prev in
    --backend) COMPREPLY=($(compgen -W "llvm c interp" -- "$cur")); return ;;
    --emit) COMPREPLY=($(compgen -W "exe c so obj asm ll bc" -- "$cur")); return ;;
    --target) COMPREPLY=($(compgen -W "native generic x86-64 x86-64-v2 x86-64-v3 x86-64-v4 aarch64" -- "$cur")); return ;;
    --numerics) COMPREPLY=($(compgen -W "strict default fast" -- "$cur")); return ;;
    --weights) COMPREPLY=($(compgen -W "embed object file extern" -- "$cur")); return ;;
    --color) COMPREPLY=($(compgen -W "auto always never" -- "$cur")); return ;;
    --after|--stop-after|--print-after)
        COMPREPLY=($(compgen -W "$(gradc ir --help | sed -n '/^passes/,$ s/^ *\(-O[0-9]\)\{0,1\} *\([a-z_]*\)  .*/\2/p')" -- "$cur"))
        return ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$(gradc "$verb" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]*\).*/\1/p')" -- "$cur"))
    elif [[ $verb == ops ]]; then
        COMPREPLY=($(compgen -W "$(gradc ops | awk 'NR > 1 {print ($1 == "-" ? $2 : $1)}')" -- "$cur"))
    fi
}
complete -o default -F _gradc gradc
