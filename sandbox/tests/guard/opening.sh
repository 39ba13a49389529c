cd /mnt/a || exit 9;
umask 077; echo x >u; stat -c %a u; umask 027; (umask 0; echo x >w; stat -c %a w); mkdir d;
stat -c %a d; echo a >u; echo b >>u; cat u; set -C; echo c >u || echo clobber; set +C; cat u;
ln -s u l; echo via >l; cat u; ln -s gone m; echo new >m; cat gone;
echo y >nodir/x || echo nodir; echo y >d || echo dir; echo y >d/ || echo dir2;
: >/dev/null; echo null >/dev/null;
sh -c 'echo x >/dev/tty' || echo notty; sh -c 'echo self >/proc/self/comm' || echo comm;
echo out >/dev/stdout; echo err >/dev/stderr;
mkfifo p; (echo piped >p &); cat p;
exec 5>five; echo five >/proc/self/fd/5; cat five;
perl -e 'use Fcntl; for ([O_RDWR|O_CREAT|O_EXCL,"u"],[O_RDWR|O_CREAT|O_EXCL,"e"],
[O_WRONLY|O_NOFOLLOW,"l"],[O_WRONLY,"/"],[O_WRONLY|O_CREAT,"."],[O_WRONLY,""],
[O_RDWR|O_CREAT,"v"],[O_WRONLY|O_CREAT|O_APPEND|O_NONBLOCK,"v"]) {
my $f; my $r = sysopen($f, $_->[1], $_->[0]); my $e = $!+0;
print $r ? fcntl($f, F_GETFL, 0) & ~0100000 : "e$e", "\n" }';
stat -c '%n %a %F' *
