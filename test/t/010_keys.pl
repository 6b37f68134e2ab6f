# Keys: made once and never replaced, refused unless nobody else can read or change
# them, read again after a reload, or printed by a command.  That no refusal and no
# listing gives a key away.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use File::Copy;
use MIME::Base64;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('keys', keygen => 0);
my $keys = key_directory($node);

# Each call is a session of its own, which reads the files anew.
sub listing { return query($node, 'clinic', 'SELECT kind, generation, active, has_private FROM apm.key') }
sub ids { return query($node, 'clinic', 'SELECT kind, generation, key_id FROM apm.key') }
sub refused { return fails_with($node, 'clinic', 'SELECT * FROM apm.key', 'AP003', @_) }

sub spew
{
	my ($path, $content, $mode) = @_;
	open(my $file, '>:raw', $path) or die "$path: $!";
	print $file $content;
	close($file);
	chmod($mode // 0600, $path);
	return;
}

is(listing(), '', 'no keys at first');

# --- apm_keygen
my @kinds = qw(apm-index apm-pepper apm-staff apm-search apm-export apm-wrapping apm-envelope network-server
  private-blockchain apm-signing node-signing);
is( query($node, 'clinic', 'SELECT kind, created FROM apm_keygen()'),
	join("\n", map { "$_|t" } @kinds),
	'apm_keygen makes one key of each kind');
my $before = ids();
my %content = map { $_ => slurp_file("$keys/$_") } grep { -f "$keys/$_" } slurp_dir($keys);
is( query($node, 'clinic', 'SELECT count(*) FILTER (WHERE created), count(*) FROM apm_keygen()'),
	'0|11', 'a second apm_keygen makes none');
is(ids(), $before, 'and the keys are the same');
is_deeply({ map { $_ => slurp_file("$keys/$_") } keys %content }, \%content, 'and so are their files');
is(scalar(grep { !/^\.\.?$/ } slurp_dir($keys)), 16, 'nothing else is left in the directory');
foreach my $name (sort keys %content)
{
	is((stat("$keys/$name"))[2] & 07777, $name =~ /pub\.pem$/ ? 0644 : 0600, "mode of $name");
}
is(length($content{'apm-index.key'}), 32, 'a secret is 32 bytes');

unlink("$keys/apm-pepper.key") or die;
is(scalar(split /\n/, listing()), 10, 'a key that is removed is not listed');
is( query($node, 'clinic', 'SELECT kind FROM apm_keygen() WHERE created'),
	'apm-pepper', 'apm_keygen makes only what is missing');
spew("$keys/apm-pepper.key", $content{'apm-pepper.key'});
is(ids(), $before, 'the key is back');

# --- who may
$node->safe_psql('clinic', 'CREATE ROLE stranger; CREATE ROLE boss IN ROLE apm_admin');
foreach my $sql ('SELECT * FROM apm_keygen()', 'SELECT * FROM apm_keys()', 'SELECT * FROM apm.key')
{
	fails_with($node, 'clinic', $sql, '42501', qr/permission denied/, "a stranger may not: $sql", 'stranger');
}
$node->safe_psql('clinic', 'GRANT EXECUTE ON FUNCTION apm_keygen() TO stranger');
fails_with($node, 'clinic', 'SELECT apm_keygen()', '42501', qr/permission denied to make keys/,
	'nor with a grant that somebody gave by mistake', 'stranger');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.key', 'boss'), '11', 'apm_admin may list keys');
is(query($node, 'clinic', 'SELECT count(*) FROM apm_keygen()', 'boss'), '11', 'and make them');
fails_with($node, 'clinic', 'SHOW apm.key_directory', '42501', qr/permission denied|must be superuser/,
	'a stranger does not see where keys are', 'stranger');

# --- files that are refused, each for its own reason
my $file = "$keys/apm-index.key";
my $secret = $content{'apm-index.key'};
my $aside = "$keys/aside";

sub with_file
{
	my ($name, $pattern, $make) = @_;
	unlink($file);
	$make->();
	refused(qr/key file "apm-index\.key" $pattern/, $name);
	-d $file ? rmdir($file) : unlink($file);
	spew($file, $secret);
	return;
}
with_file('mode 0644', qr/has group or other access/, sub { spew($file, $secret, 0644) });
with_file('mode 0620', qr/has group or other access/, sub { spew($file, $secret, 0620) });
with_file('a symbolic link', qr/is a symbolic link/, sub { spew($aside, $secret); symlink($aside, $file) });
with_file('a FIFO', qr/is not a regular file/, sub { mkfifo($file, 0600) });
with_file('a directory', qr/is a directory/, sub { mkdir($file, 0700) });
with_file('an empty file', qr/is empty/, sub { spew($file, '') });
with_file('a huge file', qr/is too long/, sub { spew($file, 'x' x 100000) });
unlink($aside);
foreach my $length (31, 33)
{
	spew($file, 'x' x $length);
	refused(qr/key "apm-index\.key" has the wrong length/, "$length bytes");
}
spew($file, $secret);
is(ids(), $before, 'the right file is accepted again');

SKIP:
{
	skip 'only root can make a file of another user', 1 unless $ENV{APM_FOREIGN_KEY};
	with_file('another user\'s file', qr/belongs to another user/, sub { rename($ENV{APM_FOREIGN_KEY}, $file) or die $! });
}

my $pem = "$keys/network-server.1.pem";
spew($pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
refused(qr/key "network-server\.1\.pem" is not a private RSA key/, 'broken PEM');
spew($pem, $content{'network-server.1.pub.pem'});
refused(qr/key "network-server\.1\.pem" is not a private RSA key/, 'a public key in the place of a private one');
spew($pem, $content{'node-signing.1.pem'});
refused(qr/key "network-server\.1\.pem" is not a private RSA key/, 'a signing key in the place of an RSA key');
spew($pem, $content{'network-server.1.pem'} . 'x');
refused(qr/key "network-server\.1\.pem" is not a private RSA key/, 'something behind the key');

# --- a server that seals and does not open
unlink($pem);
like(listing(), qr/^network-server\|1\|t\|f$/m, 'only the public half is here');
is(query($node, 'clinic', 'SELECT count(*) FROM apm_keygen() WHERE created'),
	'0', 'apm_keygen does not make a pair of which the public half is here');
chmod(0666, "$keys/network-server.1.pub.pem");
refused(qr/"network-server\.1\.pub\.pem" has group or other access/, 'a public key that others can change');
chmod(0644, "$keys/network-server.1.pub.pem");
spew($pem, $content{'network-server.1.pem'});

# --- generations
spew("$keys/apm-wrapping.3.key", 'b' x 32);
spew("$keys/apm-wrapping.03.key", 'c' x 32);
spew("$keys/apm-wrapping.99999999999.key", 'c' x 32);
like(listing(), qr/^apm-wrapping\|1\|f\|t\napm-wrapping\|3\|t\|t\napm-envelope/m,
	'the highest generation is active, names that are not exact are no keys');
unlink(map { "$keys/apm-wrapping.$_.key" } qw(3 03 99999999999));

# --- directories that are refused
chmod(0777, $keys);
refused(qr/the key directory is writable by others/, 'a directory that others can write');
chmod(0700, $keys);
foreach my $case (
	[ $node->data_dir . '/keys', qr/lies in the data directory/, 'inside the data directory' ],
	[ $node->data_dir, qr/lies in the data directory/, 'the data directory itself' ],
	[ '../keys', qr/must be given by an absolute path/, 'a relative path' ],
	[ "$keys/apm-index.key", qr/is not a directory/, 'a file' ],
	[ '/', qr/belongs to another user/, 'another user\'s directory' ])
{
	my ($path, $pattern, $name) = @$case;
	mkdir($path) if $path =~ /keys$/ && $path =~ m{^/};
	set_and_reload($node, 'apm.key_directory', $path);
	refused($pattern, $name);
}
rmdir($node->data_dir . '/keys');
set_and_reload($node, 'apm.key_directory', '');
is(listing(), '', 'no directory, no keys');
fails_with($node, 'clinic', 'SELECT apm_keygen()', 'AP002', qr/apm\.key_directory is not set/, 'keygen without a directory');
set_and_reload($node, 'apm.key_directory', "$keys-new");
is(query($node, 'clinic', 'SELECT count(*) FROM apm_keygen() WHERE created'), '11', 'keygen makes the directory');
is((stat("$keys-new"))[2] & 07777, 0700, 'for its owner alone');
set_and_reload($node, 'apm.key_directory', $keys);

# --- replaced while running
{
	my ($in, $out) = ('', '');
	my $timer = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('clinic') ], '<', \$in, '>', \$out, $timer);
	my $ask = sub {
		$out = '';
		$in .= "SELECT key_id FROM apm.key WHERE kind = 'apm-staff';\n\\echo done\n";
		$psql->pump until $out =~ /done\n/;
		return $out =~ s/done\n//r;
	};
	my $old = $ask->();
	spew($file =~ s/index/staff/r, 'n' x 32);
	is($ask->(), $old, 'a replaced file is not noticed at once');
	$node->reload;
	my $new = $old;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if ($new = $ask->()) ne $old;
		select(undef, undef, undef, 0.1);
	}
	isnt($new, $old, 'a running session has the new key after a reload');
	is($new, query($node, 'clinic', "SELECT key_id FROM apm.key WHERE kind = 'apm-staff'") . "\n", 'the one in the file');
	$in .= "\\q\n";
	$psql->finish;
	spew("$keys/apm-staff.key", $content{'apm-staff.key'});
}

# --- a command in the place of files
my $vault = $node->basedir . '/vault';
rename($keys, $vault) or die $!;
mkdir($keys, 0700);
set_and_reload($node, 'apm.secret_command', "test ! -e $vault/%k || base64 $vault/%k");
refused(qr/key "apm-envelope\.1\.pem" is not a private RSA key/, 'PEM in base64 is not PEM');
set_and_reload($node, 'apm.secret_command',
	"case %k in *.pem) cat $vault/%k ;; *) test ! -e $vault/%k || base64 $vault/%k ;; esac");
is(ids(), $before, 'the keys that a command prints are those of the files');
set_and_reload($node, 'apm.secret_command', "cat $vault/%k");
is(ids(), $before, 'raw bytes and an exit code for what is not there do as well');
spew("$vault/apm-wrapping.1.key", "retired\n");
spew("$vault/apm-wrapping.2.key", 'b' x 32);
like(listing(), qr/^apm-wrapping\|2\|t\|t$/m, 'generations after a retired one are found');
fails_with($node, 'clinic', 'SELECT apm_keygen()', '55000', qr/keys come from apm\.secret_command/,
	'apm_keygen makes no keys where a command gives them');
set_and_reload($node, 'apm.secret_command', 'echo %k');
refused(qr/key "apm-index\.key" has the wrong length/, 'a command that prints something else');
set_and_reload($node, 'apm.secret_command', "base64 $vault/apm-index.key");
refused(qr/has more than 64 generations of key "apm-wrapping"/, 'a command that does not look at %k');
set_and_reload($node, 'apm.secret_command', 'yes');
refused(qr/printed too much/, 'a command that does not end');
set_and_reload($node, 'apm.secret_command', 'kill -9 $$');
fails_with($node, 'clinic', 'SELECT * FROM apm.key', '38000', qr/ended from outside/, 'a command that is killed');
set_and_reload($node, 'apm.secret_command', 'exit 3');
is(listing(), '', 'a command that fails gives no keys');

# --- nothing of a key was said
my $log = slurp_file($node->logfile);
my @leaks = grep { index($log, $content{$_}) >= 0 || index($log, substr(encode_base64($content{$_}, ''), 0, 40)) >= 0
	  || index(lc $log, unpack('H*', substr($content{$_}, 0, 32))) >= 0 } grep { /\.key$/ } keys %content;
is("@leaks", '', 'no key stands in the log');
unlike($log, qr/BEGIN PRIVATE KEY/, 'nor a private PEM');

$node->stop;
done_testing();
