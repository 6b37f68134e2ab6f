# Draws doc/plots/scaling.csv, which the simulator printed, as doc/scaling.md shows it.  From the top of the tree.

set terminal svg size 720,360 font "sans,11" background "white"
set datafile separator ","
set key top left
set grid
set style data linespoints
csv = "doc/plots/scaling.csv"

set output "doc/plots/scaling-nodes.svg"
set title "50 ms between nodes"
set xlabel "nodes"
set logscale x
set ylabel "final blocks a second; % stale"
set y2label "seconds to finality"
set y2tics
set ytics nomirror
set yrange [0:*]
set y2range [0:*]
plot csv using ($2 == 50 ? $1 : 1/0):3 every ::1 title "final blocks a second", \
	 csv using ($2 == 50 ? $1 : 1/0):($4 * 100) every ::1 title "% of blocks stale", \
	 csv using ($2 == 50 ? $1 : 1/0):5 every ::1 axes x1y2 title "seconds to finality"

set output "doc/plots/scaling-delay.svg"
set title "10 nodes"
set xlabel "milliseconds between nodes"
plot csv using ($1 == 10 ? $2 : 1/0):3 every ::1 smooth unique title "final blocks a second", \
	 csv using ($1 == 10 ? $2 : 1/0):($4 * 100) every ::1 smooth unique title "% of blocks stale", \
	 csv using ($1 == 10 ? $2 : 1/0):5 every ::1 smooth unique axes x1y2 title "seconds to finality"
