# tests/bench/plot.gp - gnuplot -e "data='FILE'; image='FILE'" plot.gp
set terminal pngcairo size 1000,1050 font "sans,11"
set output image
set datafile separator "\t"
set style data histogram
set style fill solid 0.85 border -1
set boxwidth 0.85
set xtics rotate by -20
set grid ytics
set key top right
set yrange [0:*]
set multiplot layout 3,1
set title "Bulk over one stream, MB/s (more is better)"
set style histogram clustered gap 1
plot data using 2:xtic(1) title "device to service" lc rgb "#2b6cb0", \
     '' using 3 title "service to device" lc rgb "#90cdf4", \
     '' using 4 title "both ways at once" lc rgb "#a0aec0"
set title "CPU seconds per GB, device to service (less is better)"
set style histogram rowstacked
plot data using 5:xtic(1) title "entry (service)" lc rgb "#90cdf4", \
     '' using 6 title "relay" lc rgb "#2b6cb0", \
     '' using 7 title "exit (device)" lc rgb "#a0aec0"
set title "64 bytes there and back, p50 in microseconds (less is better)"
set style histogram clustered gap 1
set key off
plot data using 8:xtic(1) title "p50" lc rgb "#2b6cb0"
unset multiplot
