_distsoftmax() {
  local REPLY KIND WORDS word current=$words[CURRENT]
  local -a found
  [[ $current != --*=* ]] || compset -P 1 '*='
  _distsoftmax_look "${(@)words[1,CURRENT-1]}" ${${(M)current:#--*=*}%%=*}
  if [[ $KIND == module && distsoftmax == ${current%%.*}* ]]; then
    found=(distsoftmax)
    for word in ${=_distsoftmax_commands}; do found+=("distsoftmax.$word"); done
    compadd -- $found
  elif [[ $KIND != words ]]; then
    local before=$_distsoftmax_before[${words[1]:t}]
    if [[ -n $before ]]; then $before; else _default; fi
  else
    for word in ${=WORDS}; do
      if [[ $word == @files ]]; then
        _files
      elif [[ $word != -* || -n $current || $WORDS != *@files* ]]; then
        found+=("$word")
      fi
    done
    compadd -- $found
  fi
}

if ! (( $+functions[compdef] )); then
  autoload -Uz compinit
  compinit
fi
typeset -gA _distsoftmax_before
for _distsoftmax_program in python python3 mpirun mpiexec srun; do
  if [[ $_comps[$_distsoftmax_program] != _distsoftmax ]]; then
    _distsoftmax_before[$_distsoftmax_program]=$_comps[$_distsoftmax_program]
  fi
done
unset _distsoftmax_program
compdef _distsoftmax distsoftmax python python3 mpirun mpiexec srun
