# What the words before the one that is completed mean. They stand in the positional parameters; the result is in KIND:
# none (the line is no command of ours), module (the name of one comes next) or words; these are then in WORDS, with
# @files for the names of files. Both shells call it.
_distsoftmax_look() {
  local word previous='' command='' flag='' several='' asked=''
  KIND=none WORDS=''
  for word in "$@"; do
    if [ -n "$asked" ]; then
      command='' asked='' flag='' several=''
      case " $_distsoftmax_commands completion " in *" $word "*) command=$word ;; esac
    elif [ "$previous" = -m ] && [ "$word" = distsoftmax ]; then
      asked=1
    elif [ "$previous" = -m ] && [ "${word#distsoftmax.}" != "$word" ]; then
      command=${word#distsoftmax.} flag='' several=''
    elif [ -z "$command" ] && [ "${word##*/}" = distsoftmax ] && [ "${previous#-}" = "$previous" ]; then
      asked=1
    elif [ "$command" = supervise ] && [ "$word" = -- ]; then
      command=''
    elif [ -n "$command" ]; then
      case $word in
        --*=*) flag='' several='' ;;
        -*)
          flag=$word several=''
          _distsoftmax_values "$command $flag"
          case $REPLY in +*) several=1 ;; -) flag='' ;; esac
          ;;
        *) [ -n "$several" ] || flag='' ;;
      esac
    fi
    previous=$word
  done
  if [ -n "$asked" ]; then
    KIND=words WORDS="$_distsoftmax_commands completion --help --version"
  elif [ "$command" = completion ]; then
    KIND=words WORDS='bash zsh'
  elif [ -n "$command" ]; then
    KIND=words
    _distsoftmax_values "$command $flag"
    WORDS=${REPLY#[+-]}
    if [ -z "$flag" ] || [ -n "$several" ]; then
      _distsoftmax_flags "$command"
      WORDS="$WORDS $REPLY"
    fi
  elif [ "$previous" = -m ]; then
    KIND=module
  fi
}

_distsoftmax() {
  local current=${COMP_WORDS[COMP_CWORD]} word names=distsoftmax REPLY KIND WORDS
  local line=("${COMP_WORDS[@]:0:COMP_CWORD}")
  if [ "$current" = "=" ]; then # bash takes --option=value for three words
    current=''
  elif [ "${line[${#line[@]} - 1]}" = "=" ]; then
    unset "line[${#line[@]}-1]"
  fi
  _distsoftmax_look "${line[@]}"
  COMPREPLY=()
  if [ "$KIND" = module ] && [[ distsoftmax == "${current%%.*}"* ]]; then
    for word in $_distsoftmax_commands; do names="$names distsoftmax.$word"; done
    mapfile -t COMPREPLY < <(compgen -W "$names" -- "$current")
  elif [ "$KIND" != words ]; then
    _distsoftmax_before "$@"
  else
    for word in $WORDS; do
      if [ "$word" = @files ]; then
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
      elif [[ $word == "$current"* ]] && [[ $word != -* || -n $current || $WORDS != *@files* ]]; then
        COMPREPLY+=("$word")
      fi
    done
  fi
}

# Go on with what completed the lines of a program before, as far as that was a function; bash-completion may load it now.
_distsoftmax_before() {
  local program=${1##*/}
  local saved="_distsoftmax_before_${program//[!a-zA-Z0-9]/_}"
  if [ -z "${!saved}" ]; then
    if declare -F _comp_load >/dev/null; then
      _comp_load "$program" >/dev/null 2>&1
    elif declare -F _completion_loader >/dev/null; then
      _completion_loader "$program" >/dev/null 2>&1
    fi
    _distsoftmax_hook "$program"
  fi
  if [ -n "${!saved}" ] && declare -F "${!saved}" >/dev/null; then
    "${!saved}" "$@"
  else
    compopt -o default 2>/dev/null
  fi
}

_distsoftmax_hook() {
  local word previous='' function=''
  for word in $(complete -p "$1" 2>/dev/null); do
    [ "$previous" != -F ] || function=$word
    previous=$word
  done
  [ "$function" = _distsoftmax ] || printf -v "_distsoftmax_before_${1//[!a-zA-Z0-9]/_}" %s "$function"
  complete -o bashdefault -o default -F _distsoftmax "$1"
}

complete -o bashdefault -o default -F _distsoftmax distsoftmax
for _distsoftmax_program in python python3 mpirun mpiexec srun; do
  _distsoftmax_hook "$_distsoftmax_program"
done
unset _distsoftmax_program
