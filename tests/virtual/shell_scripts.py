"""Small scripts, each run in an empty folder of the phone; what genuine mksh and toybox do with them is recorded."""

LANGUAGE = r"""
echo hello world
echo 'single $x `y`' "double $((1+1))" back\ slash
echo a;echo b; echo c
true && echo yes || echo no
false && echo yes || echo no
! true; echo $?
! false && echo inverted
x=5; echo $x ${x} "$x" '$x'
x='a  b   c'; echo $x; echo "$x"
x=; echo ${x:-default} ${x-unset} ${y:-z} ${y-z}
echo ${a:=5} $a ${b:+set} ${a:+set}
unset q; (echo ${q:?is not set}) 2>/dev/null; echo $?
x=path/to/file.tar.gz; echo ${x#*/} ${x##*/} ${x%.*} ${x%%.*} ${#x}
x=abcabc; echo ${x#a*c} ${x##a*c} ${x%b*} ${x%%b*}
set -- a b c; echo $# $1 $3 "$@" "$*"
set -- 'a b' c; for i in "$@"; do echo "<$i>"; done
set -- 'a b' c; for i in $@; do echo "<$i>"; done
set -- 'a b' c; for i in "$*"; do echo "<$i>"; done
set -- a b c d; shift 2; echo $@ $#
set -- 1 2 3 4 5 6 7 8 9 10 11; echo ${10} ${11} $10
echo $((1+2*3)) $(( (1+2)*3 )) $((7/2)) $((-7/2)) $((7%3)) $((-7%3))
echo $((1<2)) $((2<=1)) $((1==1)) $((1!=1)) $((1&&0)) $((1||0)) $((!5)) $((~5))
echo $((5&3)) $((5|3)) $((5^3)) $((1<<4)) $((256>>4)) $((1?2:3))
x=3; echo $((x+1)) $(($x*2)) $((x=7)) $x $((x+=1)) $x
x=5; echo $((x++)) $x $((++x)) $((x--)) $((--x))
echo $((0x1f)) $((010)) $((2147483647+1)) $((4294967296*2))
echo $(echo nested $(echo deeper))
echo `echo old` `echo a\`echo b\``
x=$(printf 'a\nb\n\n\n'); echo "$x"
x=$(exit 3); echo $?
for i in 1 2 3; do echo $i; done
for i in; do echo never; done; echo end
for i in a b c d; do [ $i = b ] && continue; [ $i = d ] && break; echo $i; done
i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); done
i=3; until [ $i -eq 0 ]; do echo $i; i=$((i-1)); done
for i in 1 2; do for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done
for i in 1 2; do for j in a b; do [ $i$j = 1b ] && break 2; echo $i$j; done; done
if true; then echo t; else echo f; fi
if false; then echo t; elif true; then echo ei; else echo f; fi
if [ 1 -eq 2 ]; then echo t; fi; echo $?
case abc in a*) echo starts;; *) echo other;; esac
case abc in x|abc) echo either;; esac
case "a b" in "a b") echo quoted;; esac
case x in [a-m]) echo low;; [n-z]) echo high;; esac
case '*' in \*) echo star;; esac
case b in [!a]) echo nota;; esac
f() { echo "in f: $1 $#"; return 3; }; f x y; echo $?
f() { local v=inner; echo $v; }; v=outer; f; echo $v
f() { v=changed; }; v=outer; f; echo $v
f() { if [ $1 -gt 0 ]; then echo $1; f $(($1-1)); fi; }; f 3
(x=sub; echo $x); echo "[$x]"
{ echo grouped; echo twice; } | cat
(exit 5); echo $?
echo one >f; echo two >>f; cat f
echo err >&2 2>/dev/null; echo out
ls nowhere 2>/dev/null; echo $?
{ echo out; echo err >&2; } 2>&1 | sort
cat <<EOF
x is $((1+1)) and `echo cmd` \$not
EOF
cat <<'EOF'
x is $((1+1)) `echo`
EOF
cat <<-EOF
	tabbed
	EOF
cat <<A; cat <<B
first
A
second
B
echo a b c | while read x y; do echo "$x-$y"; done
printf 'a\\tb\n' | while read x; do echo "$x"; done
printf 'a\\tb\n' | while read -r x; do echo "$x"; done
printf 'x:y:z\n' | { IFS=: read a b c; echo $a $b $c; }
printf 'no newline' | { read x; echo "$? $x"; }
IFS=,; x=a,b,,c; for i in $x; do echo "<$i>"; done
IFS=' ,'; x='a , b,c'; for i in $x; do echo "<$i>"; done
touch a.txt b.txt c.log; echo *.txt; echo *.none; echo [ab]*; echo ?.log
touch 'a b' .hidden; for f in *; do echo "<$f>"; done
mkdir d; touch d/x d/y; echo d/*; echo */x
echo "*" '*' \*
set -e; false; echo never
set -e; false || true; if false; then :; fi; ! true; echo reached
set -e; f() { false; echo in; }; f || echo caught; echo after
set -u; echo $undefined; echo never
set -u; echo ${undefined:-fine}
set -o pipefail; false | true; echo $?
false | true; echo $?
true | false; echo $?
trap 'echo bye' EXIT; echo hi
trap 'echo bye $?' EXIT; exit 3
trap 'echo term' TERM; kill -TERM $$; echo after
(trap 'echo inner' EXIT; echo body); echo outer
sleep 0.05 & wait $!; echo $?
(exit 4) & wait $!; echo $?
sh -c 'echo $0 $1' name arg
sh -c 'exit 9'; echo $?
echo 'echo script $1; exit 2' >s.sh; sh s.sh arg; echo $?
echo 'x=sourced' >s.sh; . ./s.sh; echo $x
printf '#!/system/bin/sh\necho run $1\n' >s; chmod 755 s; ./s arg
echo 'echo from stdin' | sh
printf 'echo one\nif true; then\n  echo two\nfi\ncat\nthe rest\n' | sh -s
printf 'echo $1 $#\n' | sh -s a b
eval 'x=1; echo $x'; eval echo \$x
x='echo dynamic'; $x; eval "$x twice"
exec >out; echo hidden; exec 1>&2
exec 3>f; echo to3 >&3; exec 3>&-; cat f
cd /data/local/tmp; pwd; cd case; pwd; cd ..; pwd
mkdir -p a/b; cd a/b; cd ../..; pwd; cd a; cd -
cd nowhere 2>/dev/null; echo $?
command -v echo; command -v nothing_here; echo $?
command -v cat
nothing_here 2>/dev/null; echo $?
touch f; ./f 2>/dev/null; echo $?
./nowhere 2>/dev/null; echo $?
export E=1; sh -c 'echo $E'; F=2 sh -c 'echo $F'; echo "[$F]"
x=1 y=2; echo $x$y
readonly R=1; (R=2) 2>/dev/null; echo $? $R
unset x; x=1; unset x; echo "[${x-unset}]"
alias 2>/dev/null >&2; echo ok
: ; echo $?
echo a # comment
echo a#b '#c'
echo con\
tinued
if true; then
  echo multi
  echo line
fi
f()
{
  echo defined
}
f
x='
'; echo "[$x]"
echo $'a\tb\x41'
echo ~ | grep -c /
echo "${x:-"quoted default"}"
echo "${x:-a b}" ${x:-a b}
x=a; echo "$x"'$x'"$x"
test -n "$(echo x)" && echo nonempty
echo $(echo a b) "$(echo 'a  b')"
[ a = a ] && [ a != b ] && [ -z '' ] && [ -n x ] && echo strings
[ 1 -lt 2 ] && [ 2 -gt 1 ] && [ 1 -le 1 ] && [ 1 -ge 1 ] && [ 1 -ne 2 ] && echo numbers
touch f; mkdir d; [ -f f ] && [ -d d ] && [ -e f ] && [ ! -e x ] && [ ! -s f ] && echo files
ln -s f l; touch f; [ -L l ] && [ -h l ] && echo link
[ a = a -a b = b ] && [ a = b -o b = b ] && echo and-or
[ '(' a = a ')' ] && echo paren
[ 1 -eq x ] 2>/dev/null; echo $?
[[ abc == a* ]] && echo pattern
[[ a < b && ! b < a ]] && echo order
umask; umask 022; touch f; stat -c %a f
type cd >/dev/null && echo typed
fi 2>/dev/null; echo unreached
echo 'unclosed
sh -c 'if true' 2>/dev/null; echo $?
sh -c 'echo a; )' 2>/dev/null; echo $?
sh -c 'echo "open' 2>/dev/null; echo $?
getopts ab: o -a -b v; echo $o; getopts ab: o -a -b v; echo $o $OPTARG
yes | head -n 2
exit 300
return_code() { return 7; }; return_code || echo $?
echo {a,b} $((3 > 2)) end
n=0; for i in $(seq 5); do n=$((n+i)); done; echo $n
"""

TOOLS = r"""
printf '%s-%d-%05d-%x-%c\n' str 42 42 255 char
printf '%s\n' a b c
printf '%s %s\n' a b c
printf 'no args\n'; printf '%%\n'; printf '%5s|%-5s|\n' ab cd
printf 'a\0b' | wc -c
echo -n no newline; echo; echo -e 'a\tb'
printf 'b\na\nc\n' | sort; printf '10\n9\n2\n' | sort -n; printf '1\n2\n' | sort -r
printf 'b 1\na 2\n' | sort -k 2; printf 'a\na\nb\n' | sort -u
printf 'a\na\nb\n' | uniq; printf 'a\na\nb\n' | uniq -c; printf 'a\na\nb\n' | uniq -d
seq 3; seq 2 4; seq 1 2 7; seq 3 -1 1
seq 20 | head -n 3; seq 20 | tail -n 3; seq 20 | head -3; seq 20 | tail -n +18
printf abcdef | head -c 3; echo; printf abcdef | tail -c 2; echo
printf 'one two\nthree\n' >f; wc f; wc -l f; wc -w f; wc -c f; wc -l <f
printf 'a:b:c\nd:e:f\n' | cut -d : -f 2; printf 'abcdef\n' | cut -c 2-4; printf 'a:b:c\n' | cut -d: -f1,3
echo hello | tr a-y b-z; echo hello | tr -d l; echo aabbcc | tr -s b; echo 'A b' | tr A-Z a-z; echo abc | tr '[:lower:]' '[:upper:]'
printf 'apple\nbanana\ncherry\n' >f; grep an f; grep -c a f; grep -v an f; grep -n ch f; grep -q apple f; echo $?
printf 'apple\nBanana\n' >f; grep -i banana f; grep -o an f; grep -l apple f; grep nothing f; echo $?
printf 'a.b\naxb\n' >f; grep -F a.b f; grep a.b f; grep -x a.b f; grep -E 'a(x|y)b' f; grep -w b f
printf 'foo123\nbar\n' | grep -E '[0-9]+'; printf 'foo123\nbar\n' | grep '[0-9][0-9]*'; printf 'a+b\n' | grep 'a+b'
printf 'a\nb\n' >f; printf 'b\nc\n' >g; grep b f g; grep -h b f g; grep -e a -e c f g
echo hello | sed s/l/L/; echo hello | sed s/l/L/g; echo 'a b' | sed 's/\(a\) \(b\)/\2 \1/'; echo abc | sed -n p; seq 5 | sed -n 2,3p; seq 5 | sed 2d; seq 5 | sed '$d'; seq 3 | sed 2q
echo path/x | sed 's|/|_|g'; echo abc | sed 's/b/[&]/'; printf 'a\nb\n' | sed '/a/d'; echo x1y | sed -E 's/[0-9]+/N/'; echo a >f; sed -i s/a/b/ f; cat f
seq 3 | sed -e 1d -e 's/2/two/'; printf 'k=v\n' | sed -n 's/^k=//p'
mkdir -p a/b/c; ls a; ls a/b; rmdir a/b/c; ls a/b; echo $?
mkdir a; mkdir a 2>/dev/null; echo $?; mkdir -p a; echo $?
mkdir -p a/b; touch a/f a/b/g; rm -r a; ls; rm nothing 2>/dev/null; echo $?; rm -f nothing; echo $?
echo x >f; cp f g; cat g; mkdir d; cp f g d; ls d; cp -r d e; ls e; cp d h 2>/dev/null; echo $?
echo x >f; mv f g; ls; mkdir d; mv g d; ls d; mv nothing x 2>/dev/null; echo $?
echo x >f; ln -s f l; cat l; readlink l; ln f h; cat h; ln -s x l 2>/dev/null; echo $?; ln -sf g l; readlink l
touch f; chmod 600 f; stat -c %a f; chmod u+x f; stat -c %a f; chmod go+r f; stat -c %a f; chmod 755 f; stat -c '%A' f
printf abc >f; stat -c '%s %n %F' f; mkdir d; stat -c %F d; stat nothing 2>/dev/null; echo $?
printf abc | sha256sum; printf abc >f; sha256sum f; md5sum f; sha1sum f
printf abc >f; sha256sum f >s; sha256sum -c s; echo x >f; sha256sum -c s 2>/dev/null; echo $?
printf abc >f; sha256sum f | sha256sum -c -; sha256sum f | sha256sum -c; echo $?; sha256sum -c --status - <f; echo $?
sha256sum nothing 2>/dev/null; echo $?
mkdir -p d/e; echo 1 >d/f; echo 2 >d/e/g; tar -c d | tar -t | sort; mkdir o; tar -c d | tar -x -C o; cat o/d/e/g
mkdir d; echo 1 >d/f; tar -cf a.tar d; rm -r d; tar -xf a.tar; cat d/f; tar -tf a.tar
mkdir d; echo 1 >d/f; tar -czf a.tgz d; rm -r d; tar -xzf a.tgz; cat d/f; gzip -dc a.tgz | tar -t
echo x >f; chmod 700 f; mkdir d; tar -c f | tar -x -C d; stat -c %a d/f
echo a >f; echo b >g; printf 'f\ng\n' >l; tar -c -T l | tar -t
tar -x -f nothing 2>/dev/null; echo $?
printf garbage | tar -t 2>/dev/null; echo $?
echo hello | gzip | gzip -d; echo hello | gzip -c | gunzip -c; echo x >f; gzip f; ls; zcat f.gz; gunzip f.gz; ls
printf 'not gzip' | gzip -dc 2>/dev/null; echo $?
mkdir -p d/e; touch d/a.x d/b.y d/e/c.x; find d -name '*.x' | sort; find d -type f | sort; find d -type d | sort; find d -maxdepth 1 | sort
mkdir d; touch d/a d/b; find d -type f -exec echo found {} \; | sort; find d -type f -exec echo {} + | tr ' ' '\n' | sort; find nothing 2>/dev/null; echo $?
mkdir d; touch d/a; find d -name a -delete; ls d; find d -empty
printf 'a b\nc\n' | xargs echo; printf 'a b c d\n' | xargs -n 2 echo; printf 'a\0b c\0' | xargs -0 -n 1 echo; printf '' | xargs -r echo never
basename /a/b/c.txt; basename /a/b/c.txt .txt; basename c; basename /; dirname /a/b/c; dirname c; dirname /a; dirname a/b/
realpath .; mkdir d; realpath d/../d; readlink -f d/nothing; cd d; realpath ..
ls -1; touch b a c; ls; ls -r; touch .h; ls -a | tail -n 1; ls -A
touch f; ls nothing f 2>/dev/null; echo $?
mkdir d; touch d/x; ls d .; ls -d d
printf '12345' >f; truncate -s 3 f; cat f; truncate -s 5 f; wc -c f
dd if=/dev/zero bs=10 count=3 2>/dev/null | wc -c; printf abcdef >f; dd if=f bs=1 skip=2 count=2 2>/dev/null; echo; printf XY | dd of=f bs=1 seek=1 conv=notrunc 2>/dev/null; cat f
head -c 5 /dev/zero | od -A n -t x1; cat /dev/null; echo x >/dev/null
printf 'a\nb\n' | tee f; cat f; printf c | tee -a f >/dev/null; cat f
printf abc >f; printf abd >g; cmp f g >/dev/null; echo $?; cmp f f; echo $?; cmp -s f g; echo $?
expr 1 + 2; expr 6 / 4; expr 3 '*' 4; expr a = a; expr 2 '<' 1; echo $?; expr length abc 2>/dev/null; expr abc : 'a\(.*\)'
true; echo $?; false; echo $?; test 1 -eq 1; echo $?
env -i A=1 env; env B=2 sh -c 'echo $B'; A=5 printenv A; printenv NOTHING; echo $?
id -u >/dev/null; echo $?; uname -s; whoami >/dev/null; echo $?
date +%Y | wc -c; [ $(date +%s) -gt 1000000000 ] && echo now; date -d @0 -u +%Y-%m-%d
getprop ro.soc.model; getprop nothing.here; getprop nothing.here fallback; getprop ro.product.cpu.abi
timeout 0.1 sleep 5 2>/dev/null; echo $?; timeout 5 sh -c 'sleep 0.3; exit 3'; echo $?
sleep 0.01; echo $?; sleep x 2>/dev/null; echo $?
mktemp -d >n; [ -d "$(cat n)" ] && echo made; rmdir "$(cat n)"
kill -0 $$; echo $?; kill -0 999999 2>/dev/null; echo $?; kill -l 9
sleep 5 & p=$!; sleep 0.2; kill $p; wait $p 2>/dev/null; echo $?
sleep 5 & p=$!; sleep 0.2; kill -9 $p; wait $p 2>/dev/null; echo $?
nproc | grep -c .; which cat; which nothing; echo $?
df -k . | tail -n 1 | wc -l; df -k . | head -n 1 | grep -c Avail
du -s . >/dev/null; echo $?
sync; echo $?
touch -d @0 f; stat -c %Y f; touch f; [ $(stat -c %Y f) -gt 1000000000 ] && echo touched
tac 2>/dev/null </dev/null; echo $?
cat nothing 2>/dev/null; echo $?; echo in | cat - ; printf x | cat
rm -rf / 2>/dev/null; ls -d /data/local/tmp/case
cat -X 2>/dev/null; echo $?
nohup sh -c 'echo survived' 2>/dev/null
setsid sh -c 'echo own session' | cat
(sleep 0.2; echo late >f) </dev/null >/dev/null 2>&1 & echo started; sleep 0.5; cat f
printf '1\n2\n3\n' >f; split -l 2 f p; ls p*; cat pab
echo "$(cat <<X
inner doc
X
)"
"""


def _scripts(block: str) -> list[str]:
    """One script a line; a line with a here-document, an open quote or an open command takes those below it."""
    scripts: list[str] = []
    lines = block.strip("\n").split("\n")
    several = {
        "cat <<EOF": 3, "cat <<'EOF'": 3, "cat <<-EOF": 3, "cat <<A; cat <<B": 5, "echo con\\": 2, "if true; then": 4,
        "f()": 5, "x='": 2, 'echo "$(cat <<X': 4,
    }  # fmt: skip
    while lines:
        count = several.get(lines[0], 1)
        scripts.append("\n".join(lines[:count]))
        del lines[:count]
    return scripts


SCRIPTS = [*_scripts(LANGUAGE), *_scripts(TOOLS)]
