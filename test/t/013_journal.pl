# The journal of erasures: what is added is there for every process and only grows, two processes that add at once
# lose nothing, what a crash left at its end is no entry, and whatever else is done to it is found.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', setup => 0);
my $keys = key_directory($node);
my $file = "$keys/erasure-journal-abababababababab";
my $module = "$FindBin::RealBin/../modules/test_keys";

$node->safe_psql(
	'clinic', qq(
	CREATE FUNCTION add(text) RETURNS void AS '$module', 'test_journal_add' LANGUAGE c;
	CREATE FUNCTION has(text) RETURNS boolean AS '$module', 'test_journal_has' LANGUAGE c;
	CREATE FUNCTION entries() RETURNS text AS '$module', 'test_journal_read' LANGUAGE c;));

sub sql { return query($node, 'clinic', @_) }

sub spew
{
	open(my $handle, '>:raw', $file) or die $!;
	print $handle $_[0];
	close($handle) or die $!;
	chmod(0600, $file);
	return;
}

# --- added, and there
is(sql(q(SELECT has('p1'), entries() = '')), 'f|t', 'nobody was erased at first');
ok(!-e $file, 'and there is no file');
my $reader = $node->background_psql('clinic', on_error_stop => 1);
is($reader->query_safe(q(SELECT has('p1'))), 'f', 'another process has looked');
sql(q(SELECT add('p1')));
is(sql(q(SELECT has('p1'), has('p'), has('p11'), has(''), has(repeat('p', 100)))), 't|f|f|f|f', 'whom is added is there, and nobody else');
is($reader->query_safe(q(SELECT has('p1'))), 't', 'for the process that had looked before, too');
is((stat($file))[2] & 07777, 0600, 'its mode');
my $one = slurp_file($file);
sql(q(SELECT add('p1')));
is(slurp_file($file), $one, 'whoever is there is not added again');
sql(q(SELECT add('p2')));
my $two = slurp_file($file);
is(substr($two, 0, length($one)), $one, 'an entry leaves those before it as they are');
is(sql(q(SELECT entries())), "p1 1 2 cd 3\np2 1 2 cd 3", 'and they are read in their order');

# --- two processes at once
my @writers = map {
	my $who = $_;
	my $in = join('', map { "SELECT add('$who$_');\n" } (1 .. 100));
	my ($out, $err) = ('', '');
	{ run => IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('clinic') ], '<', \$in, '>', \$out, '2>', \$err),
		err => \$err };
} qw(a b);
$_->{run}->finish foreach @writers;
is(join('', map { ${ $_->{err} } } @writers), '', 'two processes add at once');
is(sql(q(SELECT count(*), count(DISTINCT e) FROM string_to_table(entries(), E'\n') AS e)), '202|202', 'and each entry is there once');
is(sql(q(SELECT bool_and(has(w || n)) FROM generate_series(1, 100) AS n, unnest('{a,b}'::text[]) AS w)), 't', 'by name, too');
unlink($file) or die $!;
is($reader->query_safe(q(SELECT has('p1'))), 'f', 'a file that is gone is seen to be gone');

# --- what a crash leaves behind the last whole entry
foreach my $torn (
	[ 'half an entry', substr($two, 0, length($two) - 40) ],
	[ 'its first byte', substr($two, 0, length($one) + 1) ],
	[ 'all but its last byte', substr($two, 0, length($two) - 1) ],
	[ 'an entry whose end is zeros', substr($two, 0, length($two) - 32) . "\0" x 32 ],
	[ 'an entry of which the disk has the beginning', substr($two, 0, length($one) + 20) . "\0" x (length($one) - 20) ],
	[ 'an entry of which the disk has nothing', $one . "\0" x length($one) ],
	[ 'some zeros', $one . "\0" x 20 ])
{
	my ($name, $bytes) = @$torn;

	spew($bytes);
	is(sql(q(SELECT has('p1'), has('p2'), entries())), 't|f|p1 1 2 cd 3', "$name: is no entry");
	sql(q(SELECT add('p3')));
	is(sql(q(SELECT has('p1'), has('p2'), has('p3'))), 't|f|t', "$name: the next one takes its place");
}

# --- what no crash leaves
foreach my $at (0, 1, 2, 12, 20, 28, 32, length($one) - 1, length($one), length($two) - 40, length($two) - 1)
{
	my $bad = $two;

	substr($bad, $at, 1) ^= "\x01";
	spew($bad);
	fails_with($node, 'clinic', q(SELECT has('p1')), 'AP003', qr/not a whole journal/, "byte $at altered");
}
fails_with($node, 'clinic', q(SELECT has('nobody')), 'AP003', qr/not a whole journal/, 'whomever is asked for');
fails_with($node, 'clinic', q(SELECT add('p4')), 'AP003', qr/not a whole journal/, 'nor is anything added to it');
spew(substr($two, length($one)));
fails_with($node, 'clinic', q(SELECT entries()), 'AP003', qr/not a whole journal/, 'an entry taken out before the last');
spew($two . $one);
fails_with($node, 'clinic', q(SELECT has('p1')), 'AP003', qr/not a whole journal/, 'an entry put behind the last');
spew($two . "\0" x 200);
fails_with($node, 'clinic', q(SELECT has('p1')), 'AP003', qr/not a whole journal/, 'more zeros than an entry has bytes');
spew('');
fails_with($node, 'clinic', q(SELECT has('p1')), 'AP003', qr/is empty/, 'an empty file');
spew($two);
chmod(0644, $file);
fails_with($node, 'clinic', q(SELECT has('p1')), 'AP003', qr/group or other access/, 'a file that others can read');
chmod(0600, $file);
is($reader->query_safe(q(SELECT has('p1'), has('p2'))), 't|t', 'put right, it is read again');
$reader->quit;

done_testing();
